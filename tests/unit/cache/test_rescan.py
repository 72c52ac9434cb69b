"""Promises of reading the list back: nobody's image loses its owner since the hub was not up yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.build.identity import ImageIdentity, image_names, labels_for
from tljh_plugin.cache import rescan
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.rescan import Rescan
from tljh_plugin.engine import ImageFacts, ImageRow
from tljh_plugin.errors import ServiceDown
from tljh_plugin.installation import ensure_state, secret
from tljh_plugin.settings import from_mapping
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import Store
from tljh_plugin.wire import Person

SPEC = parse_link("gh/a/b/" + "c" * 40)
IDENTITY = ImageIdentity(SPEC.normal_url, "c" * 40, "", "linux/amd64")
NAME = next(image_names(IDENTITY, "r", ""))
ROOT = Person(name="root", admin=True)


class Labelled(SmallDocker):
    """With labels on its images, which are for everyone or one person's."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self.labels: dict[str, dict[str, str]] = {}
        for number, audience in enumerate(["", "ann"]):
            image = f"sha256:{number:064x}"
            self.add(image, f"{NAME}-{number}")
            self.labels[image] = labels_for(
                IDENTITY, spec=SPEC.path, ref="main", recipe="r", secret=key, audience=audience
            )

    async def images(self) -> list[ImageRow]:
        return [ImageRow(key, tuple(names), self.labels[key], 1, "") for key, names in self.names.items()]

    async def image(self, ref: str) -> ImageFacts | None:
        labels = self.labels[ref]
        return ImageFacts(ref, tuple(self.names[ref]), labels, 1, "", {}, "", "", (), (), (), "amd64")


class Hub:
    up = False
    asked = 0

    async def people(self) -> list[str]:
        self.asked += 1
        if not self.up:
            raise ServiceDown("The hub does not answer.", "Wait.")
        return ["ann", "bob"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.sqlite")
    yield opened
    await opened.close()


def make(folder: Path, store: Store, hub: Hub) -> Rescan:
    settings = from_mapping({}, platform="desktop", state_dir=folder)
    ensure_state(settings)
    docker: Any = Labelled(secret(settings))
    return Rescan(settings, store, docker, Inventory(store, docker, period_s=3600), hub.people)


async def owners(store: Store) -> list[str]:
    return sorted(row.built_by for row in await store.images() if row.visibility == "private")


async def test_a_private_image_waits_until_it_is_known_whose_it_is(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "_AGAIN_S", 0.01)
    hub = Hub()
    doing = make(tmp_path, store, hub)
    await store.set_note("rescan", "due")
    await doing.start()
    try:
        assert [row.visibility for row in await store.images()] == ["everyone"]
        await until(lambda: hub.asked > 2)
        entries = [entry for entry in await store.audit_entries() if entry.what == "image.rescan"]
        assert len(entries) == 1
        assert (await store.notes())["rescan"] == "due"
        hub.up = True

        async def restored() -> bool:
            return (await store.notes())["rescan"] == "done"

        await until(restored)
        assert await owners(store) == ["ann"]
    finally:
        await doing.stop()


async def test_whoever_looks_is_told_and_can_look_again(tmp_path: Path, store: Store) -> None:
    hub = Hub()
    doing = make(tmp_path, store, hub)
    [refused] = (await doing.run(ROOT)).refused
    assert "JupyterHub" in refused.reason
    hub.up = True
    await doing.run(ROOT)
    assert await owners(store) == ["ann"]
