"""Promises of inventory, leases and deletion, with a Docker that fits into a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_cache import ANN, BOB, IDENTITY, ROOT, House, image_id, small_house
from waiting import until

from tljh_plugin.cache.leases import Leases
from tljh_plugin.engine import EngineEvent
from tljh_plugin.errors import (
    EngineUnavailable,
    ImageInUse,
)
from tljh_plugin.store import NewerRow, Store, utc_now
from tljh_plugin.wire import Person


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with small_house(tmp_path) as found:
        yield found


class TestInventory:
    async def test_only_what_docker_has_is_listed_and_pages_ask_nobody(self, house: House) -> None:
        await house.built(1)
        await house.built(2)
        del house.docker.names[image_id(1)]
        house.docker.add("sha256:stranger", "postgres:16")
        await house.inventory.refresh()
        house.docker.asked.clear()
        assert [view.id for view in house.inventory.images()] == [image_id(2)]
        assert house.inventory.image(image_id(1)) is None
        assert house.docker.asked == []

    async def test_an_image_is_called_by_its_name_everywhere(self, house: House) -> None:
        await house.built(1)
        house.inventory.title_of = lambda row: "Plain Jupyter"
        await house.inventory.refresh()
        assert [view.title for view in house.inventory.images()] == ["Plain Jupyter"]

    async def test_users_are_the_people_whose_servers_run_on_it(self, house: House) -> None:
        await house.built(1)
        house.docker.run(image_id(1), "two", person="bob", server="two")
        house.docker.run(image_id(1), "one", person="ann", server="")
        house.docker.run(image_id(1), "check", kind="check")
        house.docker.run(image_id(1), "strangers")
        await house.store.add_use(image_id(1), "ann", "")
        await house.inventory.refresh()
        [view] = house.inventory.images()
        assert view.users == ("ann/", "bob/two")
        assert view.launches == 1
        assert view.last_used

    async def test_what_others_run_is_told_to_its_owner_and_administrators(self, house: House) -> None:
        await house.built(1)
        house.docker.run(image_id(1), "two", person="bob", server="two")
        house.docker.run(image_id(1), "three", person="carol", server="x")
        await house.inventory.refresh()
        told = [house.inventory.images(person)[0].users for person in (ANN, BOB, ROOT)]
        assert told == [("bob/two", "carol/x"), ("bob/two",), ("bob/two", "carol/x")]

    async def test_whose_it_is_and_how_much_it_is_used_is_not_told_to_others(self, house: House) -> None:
        await house.built(1)
        await house.store.update_image(image_id(1), pinned=True)
        await house.store.change_image(image_id(1), {"pin_reason": "exam"}, "root", {})
        await house.store.add_use(image_id(1), "carol", "")
        await house.store.set_newer([NewerRow(image_id(1), "", utc_now(), "The host wants a password.")])
        await house.inventory.refresh()
        for person in (ANN, ROOT, None):
            view = house.inventory.images(person)[0]
            told = (view.built_by, view.launches, view.pin_reason, view.newer_problem)
            assert told == ("ann", 1, "exam", "The host wants a password.")
        view = house.inventory.images(BOB)[0]
        assert (view.built_by, view.launches, view.pin_reason, view.newer_problem) == ("", 0, "", "")
        assert view.pinned

    async def test_an_image_for_a_group_is_its_members_and_nobody_elses(self, house: House) -> None:
        await house.built(1, visibility="group", groups=("physics",))
        await house.inventory.refresh()
        member = Person(name="carol", groups=("physics",))
        seen = [len(house.inventory.images(person)) for person in (ANN, BOB, member, ROOT)]
        hits = [await house.inventory.hit(IDENTITY, person) for person in (ANN, BOB, member, ROOT)]
        assert seen == [1, 0, 1, 1]
        # An administrator may look at everything, but launching a repository gives them no private image.
        assert [hit is not None for hit in hits] == [True, False, True, False]

    async def test_private_images_are_shown_to_their_owner_and_administrators(self, house: House) -> None:
        await house.built(1, visibility="private")
        await house.inventory.refresh()
        assert [len(house.inventory.images(person)) for person in (ANN, BOB, ROOT)] == [1, 0, 1]

    async def test_a_hit_needs_the_image_to_be_there_at_this_moment(self, house: House) -> None:
        await house.built(1)
        await house.inventory.refresh()
        assert (await house.inventory.hit(IDENTITY, ANN)) is not None
        del house.docker.names[image_id(1)]  # behind our back, and no event came
        look = await house.inventory.look(IDENTITY, ANN)
        assert look.hit is None
        assert look.considered == {image_id(1)}

    async def test_a_hit_needs_the_full_identity(self, house: House) -> None:
        await house.built(1)
        for other in (
            replace(IDENTITY, subdir="x"),
            replace(IDENTITY, platform="linux/arm64"),
            replace(IDENTITY, commit="d" * 40),
        ):
            assert await house.inventory.hit(other, ANN) is None

    async def test_the_name_proves_nothing(self, house: House) -> None:
        image = await house.built(1)
        del house.docker.names[image.image_id]
        house.docker.add("sha256:impostor", image.name)
        assert await house.inventory.hit(IDENTITY, ANN) is None

    async def test_an_older_recipe_is_a_hit_and_marked_and_the_present_one_is_preferred(
        self, house: House
    ) -> None:
        await house.built(1, recipe="new")
        await house.built(2, recipe="old")
        house.inventory.recipe = "new"
        await house.inventory.refresh()
        assert [view.older_recipe for view in house.inventory.images()] == [True, False]
        hit = await house.inventory.hit(IDENTITY, ANN)
        assert hit
        assert hit.image_id == image_id(1)
        del house.docker.names[image_id(1)]
        hit = await house.inventory.hit(IDENTITY, ANN)
        assert hit
        assert hit.image_id == image_id(2)

    async def test_a_private_image_is_no_hit_for_others(self, house: House) -> None:
        await house.built(1, visibility="private")
        assert await house.inventory.hit(IDENTITY, BOB) is None
        assert await house.inventory.hit(IDENTITY, ANN) is not None

    async def test_without_docker_there_is_no_hit_but_an_error_and_the_list_stays(self, house: House) -> None:
        await house.built(1)
        await house.inventory.refresh()
        house.docker.down = True
        with pytest.raises(EngineUnavailable):
            await house.inventory.hit(IDENTITY, ANN)
        assert not await house.inventory.look_again()
        assert len(house.inventory.images()) == 1

    async def test_it_follows_dockers_events(self, house: House) -> None:
        await house.inventory.start()
        try:
            await house.built(1)
            noise = EngineEvent("container", "exec_start: true", "x", {})
            await house.docker.happening.put(noise)
            await house.docker.happening.put(EngineEvent("image", "tag", image_id(1), {}))
            await until(house.inventory.images)
        finally:
            await house.inventory.stop()

    async def test_it_stops_in_the_moment_of_an_event(self, house: House) -> None:
        await house.inventory.start()
        await asyncio.sleep(0)
        house.inventory._told.set()
        stopping = asyncio.create_task(house.inventory.stop())
        done, _ = await asyncio.wait({stopping}, timeout=60)
        assert done

    async def test_it_starts_without_docker(self, house: House) -> None:
        house.docker.down = True
        await house.inventory.start()
        await house.inventory.stop()
        assert house.inventory.images() == []


class TestLeases:
    async def test_a_lease_survives_a_restart(self, tmp_path: Path) -> None:
        store = await Store.open(tmp_path / "store.sqlite")
        lease = await Leases(store).take("sha256:1", 60)
        await store.close()
        store = await Store.open(tmp_path / "store.sqlite")
        assert await Leases(store).held("sha256:1")
        await Leases(store).release(lease)
        assert not await Leases(store).held("sha256:1")
        await store.close()

    async def test_it_expires_and_can_be_given_back_twice(self, house: House) -> None:
        lease = await house.leases.take("sha256:1", -1)
        assert not await house.leases.held("sha256:1")
        await house.leases.release(lease)
        await house.leases.release(lease)

    async def test_a_lease_on_an_image_that_is_going_waits_for_the_end_of_that(self, house: House) -> None:
        async with house.leases.none_on("sha256:1"):
            waiting = asyncio.create_task(house.leases.take("sha256:1", 60))
            await house.leases.take("sha256:2", 60)
            assert not waiting.done()
            assert not await house.leases.held("sha256:1")
        await waiting
        assert await house.leases.held("sha256:1")

    async def test_of_a_start_and_a_deletion_at_once_one_comes_first(self, house: House) -> None:
        going = False

        async def delete() -> str:
            nonlocal going
            async with house.leases.none_on("sha256:1"):
                going = True
                assert not await house.leases.held("sha256:1")
                going = False
            return "deleted"

        async def start() -> str:
            lease = await house.leases.take("sha256:1", 60)
            assert not going
            return lease

        for first in range(20):
            both = [delete(), start()] if first % 2 else [start(), delete()]
            found = await asyncio.gather(*both, return_exceptions=True)
            [lease] = [each for each in found if isinstance(each, str) and each != "deleted"]
            assert all(each == "deleted" or each == lease or isinstance(each, ImageInUse) for each in found)
            await house.leases.release(lease)
