"""What engines of both releases, and both image stores, write into a file of an image and read from it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from engines import NEXT, NEXT_CONTAINERD, OWN, Kind, private
from private_docker import PrivateDocker

from tljh_plugin.cache.image_file import Manifest, Reader, write
from tljh_plugin.engine import Engine
from tljh_plugin.errors import BadImageFile

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module", params=[OWN, NEXT, NEXT_CONTAINERD], ids=str)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateDocker]:
    kind: Kind = request.param
    with private(kind, tmp_path_factory.mktemp("engine")) as docker:
        yield docker


@pytest.fixture
async def engine(machine: PrivateDocker) -> AsyncIterator[Engine]:
    engine = Engine("0123456789abcdef", base_url=machine.host)
    yield engine
    await engine.close()


def an_image(machine: PrivateDocker, folder: Path) -> str:
    """Three layers, one of a few megabytes, and a name, which must not go along."""
    (folder / "large").write_bytes(secrets.token_bytes(3_000_000))
    (folder / "Dockerfile").write_text(
        "FROM scratch\nCOPY large /large\nCOPY Dockerfile /one\nCOPY Dockerfile /two\n"
    )
    name = f"lb-files/{secrets.token_hex(4)}:1"
    machine.docker("buildx", "build", "--provenance=false", "--quiet", "--tag", name, str(folder))
    return name


async def test_an_image_goes_through_a_file_whole_or_not_at_all(
    machine: PrivateDocker, engine: Engine, tmp_path: Path
) -> None:
    name = await asyncio.to_thread(an_image, machine, tmp_path)
    facts = await engine.image(name)
    assert facts
    manifest = Manifest(
        image_id=facts.id,
        layers=facts.layers,
        labels=dict(facts.labels),
        platform="linux/amd64",
        size=facts.size,
        spec="image/a:1",
    )
    async with aclosing(engine.save(facts.id)) as saved, aclosing(write(manifest, saved)) as pieces:
        data = b"".join([piece async for piece in pieces])
    await engine.remove_image(facts.id, [name])
    assert await engine.image(facts.id) is None

    damaged = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    for content in (damaged, data[: len(data) // 2], data[:-2000]):
        with pytest.raises(BadImageFile):
            async with aclosing(checked(content)) as pieces:
                await engine.load(pieces)
        assert await engine.image(facts.id) is None

    async with aclosing(checked(data)) as pieces:
        await engine.load(pieces)
    loaded = await engine.image(facts.id)
    assert loaded
    assert (loaded.layers, loaded.tags) == (facts.layers, ())
    await engine.remove_image(facts.id)


async def checked(data: bytes) -> AsyncIterator[bytes]:
    reader = Reader()
    for begin in range(0, len(data), 300_001):
        yield reader.feed(data[begin : begin + 300_001])
    yield reader.finish()
