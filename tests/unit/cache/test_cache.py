"""Promises of inventory, leases and deletion, with a Docker that fits into a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.leases import Leases
from tljh_plugin.cache.sweep import Sweep
from tljh_plugin.engine import EngineEvent
from tljh_plugin.errors import (
    EngineUnavailable,
    Forbidden,
    ImageInUse,
    ImageNotFound,
    NotOurs,
)
from tljh_plugin.store import BuildRow, ImageRow, Store, utc_now
from tljh_plugin.wire import Person

ANN, BOB, ROOT = Person(name="ann"), Person(name="bob"), Person(name="root", admin=True)
IDENTITY = ImageIdentity("https://example.org/a/b", "c" * 40, "", "linux/amd64")


def image_id(number: int) -> str:
    return f"sha256:{number:064x}"


class House:
    """A store, a small Docker, and what stands on them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.docker = SmallDocker()
        self.inventory = Inventory(store, self.docker, period_s=3600)
        self.leases = Leases(store)
        self.sweep = Sweep(store, self.docker, self.inventory, self.leases)

    async def built(self, number: int, **changes: object) -> ImageRow:
        row = BuildRow(
            id=f"b-{number}",
            identity=IDENTITY.key,
            url=IDENTITY.url,
            commit=IDENTITY.commit,
            subdir="",
            platform=IDENTITY.platform,
            spec="gh/a/b/main",
            asked_ref="main",
            requested_by="ann",
            created=utc_now(),
            rebuild=True,
        )
        await self.store.enqueue(row, per_person=99)
        await self.store.start_build(row.id)
        image = ImageRow(
            image_id=image_id(number),
            name=f"littlest-binder/a-b:{number}",
            identity=row.identity,
            url=row.url,
            commit=row.commit,
            subdir="",
            platform=row.platform,
            spec=row.spec,
            asked_ref="main",
            title="a/b",
            built_by="ann",
            build_id=row.id,
            created=f"2026-01-{number:02}",
            size=1,
            recipe="old",
            home="/home/jovyan",
            workdir="/home/jovyan",
        )
        image = replace(image, **changes)
        await self.store.finish_built(row.id, image)
        self.docker.add(image.image_id, image.name)
        return image


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = await Store.open(tmp_path / "store.sqlite")
    yield House(store)
    await store.close()


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
        done, _ = await asyncio.wait({stopping}, timeout=5)
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

    async def test_no_lease_on_an_image_that_is_going(self, house: House) -> None:
        async with house.leases.none_on("sha256:1"):
            with pytest.raises(ImageNotFound, match="being deleted"):
                await house.leases.take("sha256:1", 60)
            await house.leases.take("sha256:2", 60)
        await house.leases.take("sha256:1", 60)

    async def test_of_a_start_and_a_deletion_at_once_one_wins(self, house: House) -> None:
        async def delete() -> str:
            async with house.leases.none_on("sha256:1"):
                return "deleted"

        for _ in range(20):
            lease, deleted = await asyncio.gather(
                house.leases.take("sha256:1", 60), delete(), return_exceptions=True
            )
            assert isinstance(lease, str) != isinstance(deleted, str)
            if isinstance(lease, str):
                await house.leases.release(lease)


class TestDeletion:
    async def test_it_goes_and_its_history_stays(self, house: House) -> None:
        image = await house.built(1)
        await house.inventory.refresh()
        deleted = await house.sweep.delete(image.image_id, ROOT)
        assert deleted.name == image.name
        assert deleted.gained_bytes == 1000
        assert house.docker.names == {}
        assert house.inventory.images() == []
        assert await house.store.image(image.image_id) is None
        assert await house.store.build("b-1") is not None
        [entry] = await house.store.audit_entries(limit=1)
        assert (entry.who, entry.what, entry.result) == ("root", "image.delete", "deleted")

    @pytest.mark.parametrize("labels", [{"person": "bob", "server": "two"}, {}])
    async def test_in_use_by_anybody_it_stays(self, house: House, labels: dict[str, str]) -> None:
        image = await house.built(1)
        house.docker.run(image.image_id, "c1", **labels)
        plan = await house.sweep.plan(image.image_id, ROOT)
        with pytest.raises(ImageInUse, match="bob/two" if labels else "container c1") as caught:
            await house.sweep.delete(image.image_id, ROOT)
        assert plan.refusal is not None
        assert plan.refusal.message == caught.value.message
        assert image.image_id in house.docker.names
        [entry] = await house.store.audit_entries(limit=1)
        assert entry.result == "image-in-use"

    async def test_leased_it_stays(self, house: House) -> None:
        image = await house.built(1)
        lease = await house.leases.take(image.image_id, 60)
        assert isinstance((await house.sweep.plan(image.image_id, ROOT)).refusal, ImageInUse)
        with pytest.raises(ImageInUse, match="being started"):
            await house.sweep.delete(image.image_id, ROOT)
        await house.leases.release(lease)
        assert (await house.sweep.plan(image.image_id, ROOT)).refusal is None
        await house.sweep.delete(image.image_id, ROOT)

    async def test_pinned_it_stays(self, house: House) -> None:
        image = await house.built(1)
        await house.store.update_image(image.image_id, pinned=True)
        with pytest.raises(ImageInUse, match="pinned"):
            await house.sweep.delete(image.image_id, ROOT)

    async def test_while_it_is_built_again_it_stays(self, house: House) -> None:
        image = await house.built(1)
        again = await house.store.build("b-1")
        assert again is not None
        wish = replace(again, id="b-2", state="queued", created=utc_now())
        await house.store.enqueue(wish, per_person=9)
        with pytest.raises(ImageInUse, match="being built again"):
            await house.sweep.delete(image.image_id, ROOT)

    async def test_others_images_are_not_touched(self, house: House) -> None:
        house.docker.add("sha256:stranger", "postgres:16")
        with pytest.raises(NotOurs):
            await house.sweep.delete("sha256:stranger", ROOT)
        with pytest.raises(ImageNotFound):
            await house.sweep.delete("sha256:none", ROOT)
        assert "sha256:stranger" in house.docker.names

    async def test_what_everyone_uses_only_an_administrator_deletes(self, house: House) -> None:
        image = await house.built(1)
        with pytest.raises(Forbidden):
            await house.sweep.delete(image.image_id, ANN)
        private = await house.built(2, visibility="private")
        with pytest.raises(ImageNotFound):
            await house.sweep.delete(private.image_id, BOB)
        await house.sweep.delete(private.image_id, ANN)

    async def test_removed_behind_our_back_its_record_goes(self, house: House) -> None:
        image = await house.built(1)
        del house.docker.names[image.image_id]
        await house.sweep.delete(image.image_id, ROOT)
        assert await house.store.image(image.image_id) is None

    async def test_without_docker_nothing_is_forgotten(self, house: House) -> None:
        image = await house.built(1)
        house.docker.down = True
        with pytest.raises(EngineUnavailable):
            await house.sweep.delete(image.image_id, ROOT)
        assert await house.store.image(image.image_id) is not None

    async def test_two_deletions_at_once_are_one(self, house: House) -> None:
        image = await house.built(1)
        results = await asyncio.gather(
            *(house.sweep.delete(image.image_id, ROOT) for _ in range(2)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == ["Deleted", "ImageInUse"]
