"""Promises of evicting and erasing: what stays in the build cache, what goes, and that no crash matters."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_builder import SmallBuilder
from waiting import until

from tljh_plugin.cache.build_cache import BuildCache, Erased, leaf_first
from tljh_plugin.cache.bytes import freed_by
from tljh_plugin.cache.layers import Layers
from tljh_plugin.engine import CacheRecord
from tljh_plugin.errors import BinderError, EngineTimedOut, EngineUnavailable, ImageInUse, StoreError
from tljh_plugin.store import Store


class Crash(BaseException):
    """What ends the process."""


@dataclass
class Bench:
    store: Store
    docker: SmallBuilder
    layers: Layers
    cache: BuildCache

    async def look(self) -> None:
        """As the inventory and the background do."""
        self.layers.notice(self.docker.tops)
        await self.layers.learn()

    async def erase(self, image: str) -> Erased:
        return await self._remove(image, erase=True)

    async def evict(self, image: str) -> None:
        await self._remove(image, erase=False)

    async def _remove(self, image: str, *, erase: bool) -> Erased:
        async with self.cache.removing(image, erase=erase) as removal:
            self.docker.remove_image(image)
            await self.look()  # it may come at any moment
        return removal.erased

    def again(self) -> Bench:
        """After the service ended and was started anew."""
        layers = Layers(self.store, self.docker)
        return Bench(self.store, self.docker, layers, BuildCache(self.store, self.docker, layers))


@asynccontextmanager
async def opened(docker: SmallBuilder) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder) / "store.sqlite")
        layers = Layers(store, docker)
        try:
            yield Bench(store, docker, layers, BuildCache(store, docker, layers))
        finally:
            await store.close()


@pytest.fixture(params=[True, False], ids=["parents told", "parents not told"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Two images on one stack, another on the base alone, and a step of a build that failed."""
    docker = SmallBuilder(tells_parents=request.param)
    for name, parent, size in (
        ("base", "", 100),
        ("jupyter", "base", 300),
        ("plot", "jupyter", 50),
        ("code", "plot", 5),
        ("maps", "jupyter", 70),
        ("alone", "base", 20),
    ):
        docker.step(name, parent, size)
    docker.build("A", "code")
    docker.build("B", "maps")
    docker.build("C", "alone")
    async with opened(docker) as bench:
        await bench.look()
        yield bench


async def test_erasing_takes_what_was_the_images_alone(bench: Bench) -> None:
    assert freed_by(["A"], bench.layers.chains) == 55
    assert await bench.erase("A") == Erased(2, 55)
    assert set(bench.docker.cached) == {"base", "jupyter", "maps", "alone"}
    assert bench.cache.leftovers == frozenset()


async def test_evicting_keeps_the_cache_and_remembers_whose_it_is(bench: Bench) -> None:
    await bench.evict("A")
    assert {"plot", "code"} <= set(bench.docker.cached)
    assert (bench.cache.leftovers, bench.cache.leftover_bytes, bench.cache.bytes) == ({"A"}, 55, 55)
    assert freed_by(["B"], bench.layers.chains) == 70
    # The cache of A stands on the layers that both had.
    assert await bench.erase("B") == Erased(1, 70)
    assert await bench.cache.erase_leftovers() == Erased(3, 355)
    assert set(bench.docker.cached) == {"base", "alone"}


async def test_an_evicted_image_that_is_built_again_is_none_any_more(bench: Bench) -> None:
    await bench.evict("A")
    bench.docker.build("A2", "code")
    await bench.look()
    await bench.cache.look()
    assert bench.cache.leftovers == frozenset()
    assert bench.layers.own_bytes["A2"] == 55
    assert await bench.cache.erase_leftovers() == Erased()
    assert await bench.erase("A2") == Erased(2, 55)


async def test_what_a_failed_build_stands_on_stays_until_that_is_gone(bench: Bench) -> None:
    bench.docker.step("failed", "code", 9)
    assert await bench.erase("A") == Erased()
    assert {"plot", "code", "failed"} <= set(bench.docker.cached)
    del bench.docker.cached["failed"]  # the engine's own cleaning
    assert await bench.cache.erase_leftovers() == Erased(2, 55)


async def test_what_cannot_go_is_counted_on_once_and_tried_again(bench: Bench) -> None:
    """No plan reckons again with what a failed build stands on; each erasing tries it again."""
    bench.docker.step("failed", "code", 9)
    await bench.evict("A")
    assert await bench.cache.erase_leftovers() == Erased()
    assert bench.cache.leftovers == frozenset()
    assert bench.cache.leftover_bytes == 55
    del bench.docker.cached["failed"]
    assert await bench.erase("B") == Erased(4, 425)
    assert set(bench.docker.cached) == {"base", "alone"}


async def test_what_a_build_reads_stays_the_images(bench: Bench) -> None:
    bench.docker.step("failed", "code", 9)
    bench.docker.read = {"plot", "code"}
    await bench.evict("A")
    assert await bench.cache.erase_leftovers() == Erased()
    assert bench.cache.leftovers == {"A"}


async def test_what_is_in_use_keeps_image_and_cache(bench: Bench) -> None:
    with pytest.raises(ImageInUse):
        async with bench.cache.removing("A", erase=True):
            raise ImageInUse("A server runs.", "Stop it.")
    assert {"plot", "code"} <= set(bench.docker.cached)
    assert bench.layers.own_bytes["A"] == 55
    assert await bench.store.layers.removals() == []
    assert not any(each.startswith("prune") for each in bench.docker.asked)


async def test_nothing_is_begun_when_the_cache_cannot_be_listed(bench: Bench) -> None:
    bench.docker.down = True
    with pytest.raises(EngineUnavailable):
        async with bench.cache.removing("A", erase=True):
            pytest.fail("the image must stay")
    # Evicting needs no cache.
    async with bench.cache.removing("A", erase=False):
        bench.docker.remove_image("A")


async def cut_off(bench: Bench, gone: str) -> None:
    """While A is erased, with or without the image gone."""
    async with bench.cache.removing("A", erase=True):
        if gone:
            bench.docker.remove_image(gone)
        raise Crash


async def fail_at_the_end(bench: Bench, image: str) -> None:
    async with bench.cache.removing(image, erase=True):
        bench.docker.remove_image(image)
        bench.docker.down = True


async def test_an_erasing_that_a_crash_cut_off_is_finished(bench: Bench) -> None:
    with pytest.raises(Crash):
        await cut_off(bench, "A")
    assert {"plot", "code"} <= set(bench.docker.cached)
    later = bench.again()
    await later.look()
    assert freed_by(["B"], later.layers.chains) == 70  # until it is finished, its cache holds layers
    await later.cache.resume()
    assert not {"plot", "code"} & set(bench.docker.cached)
    await later.cache.resume()
    assert set(bench.docker.cached) == {"base", "jupyter", "maps", "alone"}
    assert freed_by(["B"], later.layers.chains) == 370


async def test_an_erasing_that_failed_is_finished_in_the_background(bench: Bench) -> None:
    with pytest.raises(EngineUnavailable):
        await fail_at_the_end(bench, "A")
    bench.docker.down = False
    await bench.cache.start()
    await until(lambda: "plot" not in bench.docker.cached)
    await bench.cache.stop()


@pytest.mark.parametrize("error", [EngineTimedOut, EngineUnavailable, StoreError])
async def test_what_goes_after_we_gave_up_is_finished_as_well(bench: Bench, error: type[BinderError]) -> None:
    """Docker goes on with a removal that nobody waits for any more."""
    with pytest.raises(error):
        async with bench.cache.removing("A", erase=True):
            raise error("It does not answer.", "Wait.")
    bench.docker.remove_image("A")
    await bench.look()
    assert freed_by(["B"], bench.layers.chains) == 70  # until it is finished, its cache holds layers
    await bench.cache.resume()
    assert not {"plot", "code"} & set(bench.docker.cached)
    assert freed_by(["B"], bench.layers.chains) == 370
    assert await bench.store.layers.removals() == []


async def test_a_crash_before_the_image_went_changes_nothing(bench: Bench) -> None:
    with pytest.raises(Crash):
        await cut_off(bench, "")
    bench.docker.remove_image("B")  # by somebody at the command line, who wants it back in seconds
    later = bench.again()
    await later.cache.resume()
    assert {"plot", "code", "maps"} <= set(bench.docker.cached)
    assert await bench.store.layers.removals() == []


async def test_what_others_removed_long_after_a_crash_is_not_pruned(bench: Bench) -> None:
    with pytest.raises(Crash):
        await cut_off(bench, "A")
    await bench.store._change("UPDATE removals SET begun = '2026-01-01T00:00:00.000+00:00'", [])
    bench.docker.remove_image("B")
    later = bench.again()
    await later.cache.resume()
    assert {"plot", "code", "maps"} <= set(bench.docker.cached)
    assert await bench.store.layers.removals() == []


async def test_the_layers_of_what_goes_are_not_forgotten_before_its_leftovers_are_noted(bench: Bench) -> None:
    end = bench.store.layers.end_removal

    async def meanwhile(*arguments: Any) -> None:
        await bench.look()
        await end(*arguments)

    bench.store.layers.end_removal = meanwhile  # type: ignore[method-assign]
    await bench.evict("A")
    assert freed_by(["B"], bench.layers.chains) == 70


async def test_evicted_images_are_remembered_over_a_restart(bench: Bench) -> None:
    await bench.evict("A")
    later = bench.again()
    await later.look()
    await later.cache.look()
    assert later.cache.leftovers == {"A"}
    assert freed_by(["B"], later.layers.chains) == 70


async def test_docker_is_asked_for_layers_once(bench: Bench) -> None:
    assert sorted(each for each in bench.docker.asked if each.startswith("layers")) == [
        "layers A",
        "layers B",
        "layers C",
    ]
    bench.docker.asked.clear()
    later = bench.again()
    await later.look()
    assert bench.docker.asked == []
    assert later.layers.own_bytes == {"A": 55, "B": 70, "C": 20}


async def test_nothing_is_said_before_all_layers_are_known(bench: Bench) -> None:
    bench.docker.build("D", "code")
    bench.layers.notice(bench.docker.tops)
    assert bench.layers.missing == {"D"}
    assert set(bench.layers.own_bytes.values()) == {None}
    await bench.layers.learn()
    assert bench.layers.own_bytes == {"A": 0, "B": 70, "C": 20, "D": 0}


async def test_layers_are_learned_in_the_background(bench: Bench) -> None:
    await bench.layers.start()
    bench.docker.build("D", "code")
    bench.layers.notice(bench.docker.tops)
    await until(lambda: not bench.layers.missing)
    await bench.layers.stop()


def record(name: str, *parents: str, created: str = "") -> CacheRecord:
    return CacheRecord(name, parents, 1, False, False, "", "", "regular", created)


def test_leaves_come_first() -> None:
    records = [record("a"), record("c", "b"), record("b", "a"), record("d", "a")]
    order = [each.id for each in leaf_first(records)]
    assert sorted(order) == ["a", "b", "c", "d"]
    assert order.index("c") < order.index("b") < order.index("a")
    assert order.index("d") < order.index("a")


def test_without_parents_the_youngest_come_first() -> None:
    records = [record("b", created="2"), record("a", created="1"), record("c", created="3")]
    assert [each.id for each in leaf_first(records)] == ["c", "b", "a"]
    assert leaf_first([record("a", "b"), record("b", "a")])  # nonsense ends, too


STEPS = "abc"
BUILDS = st.lists(st.text(STEPS, min_size=1, max_size=4), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(BUILDS, st.booleans(), st.data())
def test_what_was_promised_becomes_free(ways: list[str], tells_parents: bool, data: st.DataObject) -> None:
    """Any images on shared layers, evicted and erased in any order: each time what was said before, no record
    of an image that stays, and at the end nothing but what stays."""

    async def check() -> None:
        def held() -> set[str]:
            return {each.name for top in docker.tops.values() for each in docker.stack(top)}

        docker = SmallBuilder(tells_parents=tells_parents)
        for number, way in enumerate(ways):
            for end in range(1, len(way) + 1):
                docker.step(way[:end], way[: end - 1], 10 ** (end - 1) * (1 + STEPS.index(way[end - 1])))
            docker.build(f"{number}", way)
        async with opened(docker) as bench:
            await bench.look()
            for image in data.draw(st.lists(st.sampled_from(sorted(docker.tops)), unique=True)):
                erase = data.draw(st.booleans())
                promised = freed_by([image], bench.layers.chains) if erase else 0
                before = docker.occupied()
                erased = await bench._remove(image, erase=erase)
                assert before - docker.occupied() == promised == erased.bytes
                assert held() <= docker.cached.keys()
            await bench.cache.erase_leftovers()
            assert held() == docker.cached.keys()
            await bench.look()
            assert docker.occupied() == (freed_by(list(docker.tops), bench.layers.chains) or 0)

    asyncio.run(check())
