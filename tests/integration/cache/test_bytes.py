"""Promises of honest bytes on real engines: what is said to become free, and what the file system gains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from engines import NEXT, NEXT_CONTAINERD, OWN, Kind, private
from private_docker import PrivateDocker
from shared_layers import BASE, LayerBench, used

from tljh_plugin.cache.build_cache import BuildCache
from tljh_plugin.cache.bytes import freed_by
from tljh_plugin.cache.layers import Layers
from tljh_plugin.engine import Engine
from tljh_plugin.engine.layers import sizes
from tljh_plugin.store import Store

pytestmark = pytest.mark.docker

STACKS = {
    "one": ["common", "python", "one"],
    "two": ["common", "python", "two"],
    "three": ["common", "three"],
    "twin": ["common", "three"],
}
# What the file system and Docker's databases need themselves for any change.
NOISE = 200_000


class Machine:
    """An engine with images on shared layers, and what of ours looks after them."""

    def __init__(self, docker: PrivateDocker, store: Store, images: dict[str, str]) -> None:
        self.docker = docker
        self.images = images
        self.engine = Engine("0123456789abcdef", base_url=docker.host)
        self.layers = Layers(store, self.engine)
        self.cache = BuildCache(store, self.engine, self.layers)

    async def look(self) -> None:
        self.layers.notice([each.id for each in await self.engine.images()])
        await self.layers.learn()

    def promised(self, *names: str) -> int | None:
        return freed_by([self.images[name] for name in names], self.layers.chains)

    async def remove(self, name: str, *, erase: bool) -> int:
        """What the file system gained."""
        before = await asyncio.to_thread(used, self.docker)
        async with self.cache.removing(self.images[name], erase=erase):
            await self.engine.remove_image(self.images[name], [f"lb-layers/{name}:1"])
        await self.look()
        return before - await asyncio.to_thread(used, self.docker)


@pytest.fixture(scope="module", params=[OWN, NEXT, NEXT_CONTAINERD], ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def engine(
    kind: Kind, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PrivateDocker, LayerBench]]:
    folder = tmp_path_factory.mktemp("engine")
    with private(kind, folder) as docker:
        bench = LayerBench(docker, folder / "context", size=3_000_000)
        bench.import_base()
        yield docker, bench


@pytest.fixture
async def machine(engine: tuple[PrivateDocker, LayerBench], tmp_path: Path) -> AsyncIterator[Machine]:
    docker, bench = engine
    there = docker.docker("images", "--format={{.Repository}}").split()
    for name, stack in STACKS.items():
        if f"lb-layers/{name}" not in there:
            await asyncio.to_thread(bench.build, {f"lb-layers/{name}:1": stack})
    store = await Store.open(tmp_path / "store.sqlite")
    machine = Machine(docker, store, {})
    for name in STACKS:
        facts = await machine.engine.image(f"lb-layers/{name}:1")
        assert facts is not None
        machine.images[name] = facts.id
    await machine.look()
    yield machine
    await machine.engine.close()
    await store.close()


async def test_a_record_of_an_image_that_is_there_is_never_pruned(machine: Machine) -> None:
    await machine.cache.look()
    shared = [each for each in machine.cache.records if each.shared]
    assert len(shared) >= 5
    assert {await machine.engine.prune_cache_record(each.id) for each in shared} == {None}
    assert await machine.engine.prune_cache_record("0" * 25) is None
    await machine.cache.look()
    assert {each.id for each in shared} <= {each.id for each in machine.cache.records}


async def test_dockers_history_tells_the_same_layers(machine: Machine, kind: Kind) -> None:
    """Where its folder may not be read, as by a person at a desktop."""
    with machine.docker.client() as client:
        digests = client.inspect_image(machine.images["one"])["RootFS"]["Layers"]
        told = sizes(digests, client.history(machine.images["one"]))
    assert None not in told
    measured = [layer.bytes for layer in machine.layers.chains[machine.images["one"]]]
    if kind is not NEXT_CONTAINERD:
        assert all((said or 0) < true <= 1.6 * (said or 0) for said, true in zip(told, measured, strict=True))
    assert len(told) == len(STACKS["one"]) + 1
    base = await machine.engine.layers(BASE)
    assert base[0].chain_id == machine.layers.chains[machine.images["one"]][0].chain_id


async def test_evicting_frees_nothing_until_its_cache_is_erased(machine: Machine, kind: Kind) -> None:
    promised = machine.promised("one")
    gained = await machine.remove("one", erase=False)
    if kind is not NEXT_CONTAINERD:
        assert gained == pytest.approx(0, abs=NOISE)
    assert machine.cache.leftovers == {machine.images["one"]}
    before = await asyncio.to_thread(used, machine.docker)
    erased = await machine.cache.erase_leftovers()
    assert erased.records >= 1
    gained = before - await asyncio.to_thread(used, machine.docker)
    if promised is not None:
        assert gained == pytest.approx(promised, rel=0.05, abs=NOISE)
    assert gained > 0
    assert machine.cache.leftovers == frozenset()


async def test_an_image_built_again_after_an_eviction_takes_seconds_and_is_whole(
    machine: Machine, engine: tuple[PrivateDocker, LayerBench]
) -> None:
    await machine.remove("one", erase=False)
    cached = {each.id for each in machine.cache.records}
    await asyncio.to_thread(engine[1].build, {"lb-layers/one:1": STACKS["one"]})
    await machine.cache.look()
    layers = [each.id for each in machine.cache.records if each.kind == "regular"]
    assert set(layers) <= cached
    assert machine.cache.leftovers == frozenset()


async def test_what_is_promised_is_what_the_disk_gains(machine: Machine, kind: Kind) -> None:
    """Shared with another image, alone, shared until the other went, and a layer that both had."""
    tells = kind is not NEXT_CONTAINERD
    left = ["twin", "one", "three", "two"]
    while left:
        name = left.pop(0)
        promised = machine.promised(name)
        assert (promised is not None) == (tells or name == "twin"), name
        gained = await machine.remove(name, erase=True)
        if tells:
            assert gained == pytest.approx(promised, rel=0.05, abs=NOISE), name
        else:
            # A store that does not tell what layers occupy promises nothing, and is erased all the same.
            assert name == "twin" or gained > 500_000, name
        there = {each.id for each in machine.cache.records if each.shared}
        assert len(there) >= len({layer for each in left for layer in STACKS[each]})
    own = [each for each in machine.cache.records if each.kind == "regular" and not each.shared]
    assert not any(each.bytes for each in own)
