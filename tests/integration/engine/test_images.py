"""Images, events and figures of a real Docker."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable

import docker
import pytest

from tljh_plugin.engine import ContainerSpec, Engine, Limits
from tljh_plugin.engine.buildx import buildx_command, version
from tljh_plugin.errors import EngineUnavailable, ImageInUse, ImageNotFound, NotOurs

pytestmark = pytest.mark.docker

DEBIAN = "littlest-binder/debian:bookworm"


async def tags(engine: Engine, image: str) -> list[str] | None:
    facts = await engine.image(image)
    return None if facts is None else sorted(facts.tags)


async def test_an_image_is_told_in_full(engine: Engine, small_image: Callable[..., str]) -> None:
    identifier = small_image(
        "ENV HOME=/home/ann OPTIONS=a=b",
        "WORKDIR /work",
        "USER 7",
        'CMD ["a", "b"]',
        "LABEL some.label=value",
    )
    facts = await engine.image(identifier)
    assert facts is not None
    assert (facts.id, facts.tags, facts.workdir, facts.user, facts.cmd) == (
        identifier,
        (),
        "/work",
        "7",
        ("a", "b"),
    )
    assert (facts.home, facts.env["OPTIONS"], facts.labels["some.label"]) == ("/home/ann", "a=b", "value")
    assert len(facts.layers) == 1
    row = next(row for row in await engine.images() if row.id == identifier)
    assert (row.labels["some.label"], row.tags, row.size) == ("value", (), facts.size)
    assert row.created[:16] == facts.created[:16]


async def test_no_image_is_none(engine: Engine) -> None:
    assert await engine.image("littlest-binder/none:1") is None
    with pytest.raises(ImageNotFound):
        await engine.tag("littlest-binder/none:1", "littlest-binder/other:1")
    with pytest.raises(ImageNotFound):
        await engine.remove_image("littlest-binder/none:1")


async def test_an_image_goes_with_all_our_names(engine: Engine, small_image: Callable[..., str]) -> None:
    identifier = small_image()
    await engine.tag(identifier, "littlest-binder/test-a:1")
    await engine.tag(identifier, "littlest-binder/test-b:2-3")
    assert await tags(engine, identifier) == ["littlest-binder/test-a:1", "littlest-binder/test-b:2-3"]
    await engine.remove_image(identifier)
    assert await engine.image(identifier) is None


async def test_an_image_without_a_name_goes_by_its_id(
    engine: Engine, small_image: Callable[..., str]
) -> None:
    identifier = small_image()
    await engine.remove_image(identifier)
    assert await engine.image(identifier) is None


async def test_somebody_elses_name_keeps_the_image(engine: Engine, small_image: Callable[..., str]) -> None:
    identifier = small_image()
    await engine.tag(identifier, "littlest-binder/test-c:1")
    await engine.tag(identifier, "their/image:1")
    await engine.remove_image(identifier)
    assert await tags(engine, identifier) == ["their/image:1"]
    with pytest.raises(NotOurs, match="their/image:1"):
        await engine.remove_image(identifier)
    assert await tags(engine, identifier) == ["their/image:1"]


async def test_another_installations_name_can_be_spared(
    engine: Engine, small_image: Callable[..., str]
) -> None:
    identifier = small_image()
    await engine.tag(identifier, "littlest-binder/test-d:1")
    await engine.tag(identifier, "littlest-binder/test-e:1")
    await engine.remove_image(identifier, names=["littlest-binder/test-d:1"])
    assert await tags(engine, identifier) == ["littlest-binder/test-e:1"]


async def test_an_image_in_use_loses_nothing(
    engine: Engine, limits: Limits, build_image: Callable[..., str], client: docker.APIClient
) -> None:
    name = build_image(f"FROM {DEBIAN}\nLABEL test={engine.instance}\n")
    facts = await engine.image(name)
    assert facts is not None
    await engine.tag(facts.id, "littlest-binder/test-f:1")
    client.remove_image(name)
    container = await engine.start(
        ContainerSpec(
            image=facts.id, command=("true",), limits=limits, kind="server", name=f"u-{engine.instance}"
        )
    )
    try:
        await engine.wait(container, 30)
        with pytest.raises(ImageInUse, match=f"u-{engine.instance}"):
            await engine.remove_image(facts.id)
        assert await tags(engine, facts.id) == ["littlest-binder/test-f:1"]
    finally:
        await engine.remove(container)
    await engine.remove_image(facts.id)
    assert await engine.image(facts.id) is None


async def test_events_are_followed_until_nobody_wants_them(
    engine: Engine, small_image: Callable[..., str]
) -> None:
    identifier = small_image()
    seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def follow() -> None:
        async for event in engine.events(["image"]):
            if event.id == identifier:
                seen.put_nowait((event.type, event.action))

    following = asyncio.ensure_future(follow())
    while seen.empty():  # until Docker has taken the question
        await engine.tag(identifier, "littlest-binder/test-g:1")
        await asyncio.wait({following}, timeout=0.05)
    assert seen.get_nowait() == ("image", "tag")
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_the_figures_are_the_machines(engine: Engine) -> None:
    info = await engine.info()
    assert info.version
    assert info.storage_driver
    free = shutil.disk_usage(info.root_dir).free
    assert abs(await engine.free_bytes() - free) < 2**30


async def test_buildx_tells_its_version() -> None:
    assert buildx_command()[-1] == "buildx"
    assert (await version())[0].isdigit()


async def test_a_missing_docker_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineUnavailable, match="not found"):
        await version()
