"""The inventory as the administrator's table sees it: from memory, with its age, woken by builds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.retention import Verdict
from tljh_plugin.errors import EngineUnavailable
from tljh_plugin.store import BuildRow, ImageRow, Store, utc_now
from tljh_plugin.store.about_images import Package
from tljh_plugin.wire import ErrorView

OURS, OTHERS = "sha256:" + "aa" * 32, "sha256:" + "bb" * 32


class Shelf:
    """A store with one image of ours, and a small Docker with another one besides."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.docker = SmallDocker()
        self.inventory = Inventory(store, self.docker, period_s=3600)  # type: ignore[arg-type]

    def build(self, build_id: str) -> BuildRow:
        return BuildRow(
            id=build_id,
            identity="identity",
            url="https://example.org/a/b",
            commit="c" * 40,
            subdir="",
            platform="linux/amd64",
            spec="gh/a/b/main",
            asked_ref="main",
            requested_by="ann",
            created=utc_now(),
            rebuild=True,
        )

    async def fill(self) -> None:
        build = self.build("b-1")
        await self.store.enqueue(build, per_person=9)
        await self.store.start_build(build.id)
        image = ImageRow(
            image_id=OURS,
            name="littlest-binder/a-b:1",
            title="a/b",
            built_by="ann",
            build_id=build.id,
            size=1,
            recipe="old",
            home="/home/jovyan",
            workdir="/home/jovyan",
            **{
                name: getattr(build, name)
                for name in (
                    "identity",
                    "url",
                    "commit",
                    "subdir",
                    "platform",
                    "spec",
                    "asked_ref",
                    "created",
                )
            },
        )
        await self.store.finish_built(build.id, image)
        await self.store.add_use(OURS, "eve", "calm-otter")
        self.docker.add(OURS, image.name)
        self.docker.add(OTHERS, "postgres:16")


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    store = await Store.open(tmp_path / "store.sqlite")
    made = Shelf(store)
    await made.fill()
    yield made
    await store.close()


async def test_all_images_of_the_engine_are_listed_and_nobody_is_asked(shelf: Shelf) -> None:
    shelf.docker.run(OURS, "one", person="eve", server="calm-otter")
    shelf.docker.run(OTHERS, "db")
    await shelf.inventory.refresh()
    shelf.docker.asked.clear()
    ours, others = sorted(shelf.inventory.listed(), key=lambda each: not each.ours)
    assert (ours.title, ours.launches, ours.last_used_by, ours.users) == (
        "a/b",
        1,
        "eve",
        ("eve/calm-otter",),
    )
    assert {"in-use", "ready"} <= ours.badges
    assert (others.title, others.users, others.badges) == (
        "postgres:16",
        ("container db",),
        {"in-use", "not-ours"},
    )
    assert shelf.docker.asked == []


async def test_the_size_is_that_of_the_layers_on_the_disk_where_they_are_known(shelf: Shelf) -> None:
    await shelf.inventory.refresh()
    told = {each.id: each.size for each in shelf.inventory.listed()}
    shelf.inventory.sizes = lambda: {OURS: 1234, OTHERS: None}
    await shelf.inventory.refresh()
    assert {each.id: each.size for each in shelf.inventory.listed()} == {OURS: 1234, OTHERS: told[OTHERS]}
    [view] = shelf.inventory.images()
    assert view.size == 1234


async def test_it_is_put_together_anew_only_where_something_changed(shelf: Shelf) -> None:
    own: dict[str, int | None] = {OURS: 5}
    verdicts = {OURS: Verdict("pinned", "It is pinned.")}
    shelf.inventory.own_bytes, shelf.inventory.verdicts = (lambda: own), (lambda: verdicts)
    await shelf.inventory.refresh()
    first = shelf.inventory.listed()
    assert next(each for each in first if each.ours).own_bytes == 5
    assert next(each for each in first if each.ours).keep == "pinned"
    assert shelf.inventory.listed() is first
    verdicts = {OURS: Verdict("", "It was not used for 90 days.", goes=True)}
    again = next(each for each in shelf.inventory.listed() if each.ours)
    assert (again.keep, again.goes, again.verdict) == ("", True, "It was not used for 90 days.")


async def test_a_build_that_begins_or_fails_is_seen_without_a_word_of_docker(shelf: Shelf) -> None:
    def badges() -> frozenset[str]:
        return next((each.badges for each in shelf.inventory.listed() if each.ours), frozenset())

    await shelf.inventory.start()
    try:
        assert not {"building", "failed"} & badges()
        again = shelf.build("b-2")
        await shelf.store.enqueue(again, per_person=9)
        shelf.inventory.wake()
        await until(lambda: "building" in badges())
        await shelf.store.start_build(again.id)
        await shelf.store.finish_unbuilt(again.id, "failed", ErrorView(code="x", message="x"))
        shelf.inventory.wake()
        await until(lambda: "failed" in badges())
    finally:
        await shelf.inventory.stop()


async def test_it_knows_how_old_it_is_and_why(shelf: Shelf) -> None:
    await shelf.inventory.refresh()
    looked = shelf.inventory.looked
    assert looked
    shelf.docker.down = True
    assert not await shelf.inventory.look_again()
    assert isinstance(shelf.inventory.problem, EngineUnavailable)
    assert shelf.inventory.looked == looked
    assert len(shelf.inventory.listed()) == 2
    shelf.docker.down = False
    assert await shelf.inventory.look_again()
    assert shelf.inventory.problem is None


async def test_what_is_kept_about_images_goes_with_them(shelf: Shelf) -> None:
    about = shelf.store.about_images
    assert await about.packages(OURS) is None
    await about.put_packages(OURS, [Package("python", "numpy", "2.3.1")])
    found = await about.packages(OURS)
    assert found is not None
    assert found.found == (Package("python", "numpy", "2.3.1"),)
    assert [each.id for each in await about.builds("identity", 5)] == ["b-1"]
    assert [(each.person, each.server) for each in await about.launches(OURS, 5)] == [("eve", "calm-otter")]
    await shelf.store.forget_image(OURS)
    await about.put_packages(OTHERS, [])
    assert await about.packages(OURS) is None
