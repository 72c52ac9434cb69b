"""Images found again after the store was lost, and images that were built elsewhere, on a real Docker."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from git_server import GitServer
from installation_parts import ANN, BOB, ROOT, Parts, opened, settings_for, visited

from tljh_plugin.build.identity import ImageIdentity, labels_for, short_recipe
from tljh_plugin.cache.adoption import Adoption
from tljh_plugin.cache.rescan import Rescan
from tljh_plugin.errors import (
    Forbidden,
    ImageNotFound,
    ImageNotLaunchable,
    NotOurs,
    PolicyRefused,
    ReservedLabel,
)
from tljh_plugin.installation import secret
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.service.again import Again
from tljh_plugin.service.lookups import Lookups
from tljh_plugin.source.credentials import Credentials
from tljh_plugin.source.spec import parse_link

pytestmark = pytest.mark.docker

STRANGERS = "littlest-binder-test"


@pytest.fixture
def sections(git_server: GitServer, base_image: str) -> dict[str, Any]:
    policy = {
        **git_server.settings(),
        "dockerfile": "everyone",
        "images": "listed",
        "image_names": [f"{STRANGERS}/*"],
    }
    return {"policy": policy}


@pytest.fixture
async def parts(tmp_path: Path, sections: dict[str, Any]) -> AsyncIterator[Parts]:
    async with visited(settings_for(tmp_path / "state", sections)) as ours:
        yield ours


@pytest.fixture
def tagged(
    client: docker.APIClient, base_image: str, build_image: Callable[..., str]
) -> Iterator[Callable[..., str]]:
    """Gives an image, by default one that starts, a name of its own; taken away afterwards."""
    made: list[str] = []

    def tag(image: str = "", name: str = "") -> str:
        image = image or build_image(f"FROM littlest-binder/base\nENV MARK={secrets.token_hex(8)}\n")
        repository, _, label = (name or f"{STRANGERS}/{secrets.token_hex(6)}:1").rpartition(":")
        client.tag(image, repository, label)
        made.append(f"{repository}:{label}")
        return made[-1]

    yield tag
    for name in made:
        subprocess.run(["docker", "image", "rm", name], capture_output=True, check=False)


async def people() -> list[str]:
    return ["ann", "bob"]


def rescan(parts: Parts) -> Rescan:
    return Rescan(parts.settings, parts.store, parts.engine, parts.inventory, people)


def adoption(parts: Parts) -> Adoption:
    return Adoption(parts.settings, parts.store, parts.engine, parts.inventory)


def lookups(parts: Parts) -> Lookups:
    no_projects: Any = None
    credentials = Credentials(parts.settings)
    return Lookups(parts.settings, parts.resolver, parts.queue, no_projects, credentials, parts.inventory)


def small(git_server: GitServer, name: str) -> str:
    mark = secrets.token_hex(8)
    git_server.new(name, {"Dockerfile": f"FROM littlest-binder/base\nENV MARK={mark}\n"})
    return git_server.spec(name)


def lose_the_store(state: Path) -> None:
    for path in state.glob("store.sqlite*"):
        path.unlink()


async def test_images_are_found_again_when_the_store_was_lost(
    tmp_path: Path, sections: dict[str, Any], git_server: GitServer
) -> None:
    settings = settings_for(tmp_path / "state", sections)
    async with opened(settings) as parts:
        built = await parts.build(small(git_server, "found"))
        assert built.error is None
        before = await parts.store.image(built.image_id)
        assert before
    lose_the_store(settings.state_dir)
    async with visited(settings) as parts:
        assert parts.inventory.images() == []
        doing = rescan(parts)
        await doing.start()
        try:
            [image] = [view for view in parts.inventory.images() if view.id == built.image_id]
            after = await parts.store.image(built.image_id)
            assert after
            same = (
                "name",
                "identity",
                "url",
                "commit",
                "spec",
                "asked_ref",
                "recipe",
                "home",
                "workdir",
                "size",
            )
            assert {name: getattr(after, name) for name in same} == {
                name: getattr(before, name) for name in same
            }
            assert (image.visibility, image.adopted) == ("everyone", False)
            hit = await parts.request(git_server.spec("found"))
            assert (hit.hit, hit.image_id) == (True, built.image_id)
            assert (await parts.store.notes())["rescan"] == "done"
            again = await doing.run(ROOT)
            assert (again.restored, again.known) == ((), 1)
            told = [(entry.who, entry.what) for entry in await parts.store.audit_entries()]
            assert ("system", "image.restore") in told
            assert ("root", "image.rescan") in told
        finally:
            await doing.stop()


async def test_only_what_we_signed_and_named_is_taken_for_ours(
    parts: Parts, git_server: GitServer, client: docker.APIClient, small_image: Callable[..., str]
) -> None:
    spec = parse_link("gh/owner/repo/" + "a" * 40)
    identity = ImageIdentity(spec.normal_url, "a" * 40, "", "linux/amd64")

    def labels(key: bytes, **other: str) -> list[str]:
        signed = labels_for(identity, spec=spec.path, ref="main", recipe="r", secret=key, audience="ann")
        return [f'LABEL "{name}"="{value}"' for name, value in {**signed, **other}.items()]

    own = secret(parts.settings)
    made = {
        "strange": small_image(*labels(b"x" * 32)),
        "changed": small_image(*labels(own, **{"org.littlest-binder.commit": "b" * 40})),
        "unnamed": small_image(*labels(own)),
        "derived": small_image(*labels(own)),
        "good": small_image(*labels(own)),
    }
    mark = secrets.token_hex(6)
    client.tag(made["strange"], f"{STRANGERS}/{mark}", "strange")
    client.tag(made["derived"], f"{STRANGERS}/{mark}", "derived")
    name = f"littlest-binder/owner-repo:{identity.key[:12]}-{short_recipe('r')}-{mark}"
    client.tag(made["good"], *name.rsplit(":", 1))
    found = await rescan(parts).run(ROOT)
    ours = {image.id: image for image in found.restored if image.id in made.values()}
    assert list(ours) == [made["good"]]
    # What needed a credential is still its person's alone.
    assert (ours[made["good"]].built_by, ours[made["good"]].visibility) == ("ann", "private")
    assert parts.inventory.image(made["good"], BOB) is None
    assert {each.id for each in found.refused} >= {made["unnamed"], made["derived"]}
    assert made["changed"] not in {each.id for each in found.refused}
    reasons = {each.id: each.reason for each in found.proposals}
    assert reasons[made["strange"]] == "built by another installation"
    assert await rescan(parts).run(ROOT)


async def test_an_adopted_image_starts_like_others(parts: Parts, tagged: Callable[..., str]) -> None:
    name = tagged()
    doing = adoption(parts)
    image_id = await doing.adopt(ROOT, name, title="Our course")
    view = parts.inventory.image(image_id, BOB)
    assert view
    assert (view.title, view.spec, view.adopted, view.older_recipe) == (
        "Our course",
        f"image/{name}",
        True,
        False,
    )
    packages = await parts.store.about_images.packages(image_id)
    assert packages
    assert {("python", "jupyterlab"), ("debian", "bash")} <= {
        (each.kind, each.name) for each in packages.found
    }
    assert name in (await facts_of(parts, image_id)).tags
    assert view.name in (await facts_of(parts, image_id)).tags
    pinned = await lookups(parts).pin(BOB, f"image/{name}")
    build = await parts.queue.request(BOB, pinned)
    assert (build.hit, build.image_id) == (True, image_id)
    with pytest.raises(NotOurs):
        await Again(lookups(parts), parts.queue, parts.inventory).rebuild(ROOT, image_id)
    assert await doing.adopt(ROOT, name) == image_id
    assert "image.adopt" in [entry.what for entry in await parts.store.audit_entries()]
    # Only our name goes with our record.
    await parts.engine.remove_image(image_id, names=[view.name])
    left = await facts_of(parts, image_id)
    assert name in left.tags
    assert view.name not in left.tags


async def facts_of(parts: Parts, image_id: str) -> Any:
    facts = await parts.engine.image(image_id)
    assert facts
    return facts


async def test_what_is_not_adopted_is_not_started(parts: Parts, tagged: Callable[..., str]) -> None:
    name = tagged()
    with pytest.raises(ImageNotFound):
        await lookups(parts).pin(ANN, f"image/{name}")
    with pytest.raises(Forbidden):
        await adoption(parts).adopt(ANN, name)
    with pytest.raises(PolicyRefused):
        await adoption(parts).adopt(ROOT, "littlest-binder/base:latest")
    with pytest.raises(ImageNotFound):
        await adoption(parts).adopt(ROOT, f"{STRANGERS}/no-such:1")


async def test_an_image_that_does_not_start_is_not_adopted(
    parts: Parts, small_image: Callable[..., str], tagged: Callable[..., str]
) -> None:
    broken = tagged(small_image("CMD /nothing"))
    with pytest.raises(ImageNotLaunchable):
        await adoption(parts).adopt(ROOT, broken)
    marked = tagged(small_image(f'LABEL "{INSTANCE_LABEL}"="{parts.engine.instance}"'))
    with pytest.raises(ReservedLabel):
        await adoption(parts).adopt(ROOT, marked)
    assert parts.inventory.images() == []
    assert [each for each in await parts.engine.containers() if parts.engine.is_ours(each.labels)] == []
