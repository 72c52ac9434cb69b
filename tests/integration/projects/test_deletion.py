"""Deleting a project while a real container uses it, and removing files that belong to the servers' user."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.engine import ContainerSpec, Engine, ImageFacts, Limits, Mount
from tljh_plugin.errors import ProjectInUse
from tljh_plugin.projects import DeletedProjects, Projects, Upkeep
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import Store
from tljh_plugin.wire import Person, PrepareRequest

pytestmark = pytest.mark.docker

ANN = Person(name="ann")


def is_there(path: Path) -> bool:
    return os.path.lexists(path)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.sqlite")
    yield opened
    await opened.close()


async def test_a_project_lives_as_long_as_a_container_sees_it(
    tmp_path: Path, engine: Engine, store: Store, base_image: str, limits: Limits
) -> None:
    settings = from_mapping(
        {"servers": {"uid": 1000}, "storage": {"measure_every_s": 0.001}},
        platform="jupyterhub",
        state_dir=tmp_path,
    )
    projects = Projects(settings, store, engine)
    upkeep = Upkeep(settings, store, engine, projects.root, projects.sizes, projects.locks)
    deleted = DeletedProjects(settings, store, engine, projects.locks, upkeep.wake)
    facts = await engine.image(base_image)
    assert isinstance(facts, ImageFacts)
    asked = PrepareRequest(
        server="s",
        image_id=facts.id,
        repository="https://github.com/owner/repo",
        spec="gh/owner/repo/main",
        commit="a" * 40,
    )
    view, home = await projects.prepare(ANN, asked, facts, base_image)
    program = (
        "mkdir -p /h/deep/er && dd if=/dev/urandom of=/h/deep/data bs=1000 count=500 && ln -s / /h/out"
        " && chmod 500 /h/deep && sleep 300"
    )
    container = await engine.start(
        ContainerSpec(
            image=base_image,
            entrypoint=("sh", "-c", program),
            command=(),
            limits=limits,
            kind="check",
            mounts=(Mount(str(home), "/h"),),
        )
    )
    with pytest.raises(ProjectInUse):
        await deleted.delete(ANN, view.id)
    await until(lambda: is_there(home / "out"))
    await upkeep.round()
    [size] = (await store.sizes()).values()
    assert 500_000 <= size.bytes <= 600_000
    await engine.remove(container)
    gone = await deleted.delete(ANN, view.id)
    assert not is_there(home)
    assert is_there(gone.folder / "home" / "deep" / "data")
    await upkeep.remove_expired(datetime.now(timezone.utc) + timedelta(days=15))
    assert os.listdir(gone.folder.parent) == []
    assert await projects.list(ANN) == []
