"""Promises of the store."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import StoreError
from tljh_plugin.store import BuildRow, ImageRow, ProjectRow, Store, utc_now
from tljh_plugin.wire import ErrorView

CANCELLED = ErrorView(code="build-cancelled", message="cancelled", next="again")


def a_build(number: int = 1, **changes: object) -> BuildRow:
    row = BuildRow(
        id=f"b-{number}",
        identity="i" * 64,
        url="https://example.org/a/b",
        commit="c" * 40,
        subdir="",
        platform="linux/amd64",
        spec="gh/a/b/main",
        asked_ref="main",
        requested_by="ann",
        created=utc_now(),
    )
    return replace(row, **changes)


def an_image(number: int = 1, **changes: object) -> ImageRow:
    row = ImageRow(
        image_id=f"sha256:{number:064x}",
        name=f"littlest-binder/a-b:{number}",
        identity="i" * 64,
        url="https://example.org/a/b",
        commit="c" * 40,
        subdir="",
        platform="linux/amd64",
        spec="gh/a/b/main",
        asked_ref="main",
        title="a/b",
        built_by="ann",
        build_id="",
        created=utc_now(),
        size=1,
        recipe="r",
        home="/home/jovyan",
        workdir="/home/jovyan",
    )
    return replace(row, **changes)


def a_project(**changes: object) -> ProjectRow:
    row = ProjectRow(
        id="a-b-12345678",
        owner="ann",
        repository="https://example.org/a/b",
        spec="gh/a/b/main",
        commit="c" * 40,
        subdir="",
        image_id="sha256:1",
        path="/srv/ann/a-b-12345678/home",
        created=utc_now(),
    )
    return replace(row, **changes)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "store.sqlite")
    yield opened
    await opened.close()


async def started(store: Store, row: BuildRow) -> None:
    await store.enqueue(row, per_person=9)
    assert await store.start_build(row.id)


class TestTheFile:
    async def test_it_is_readable_by_the_owner_alone(self, store: Store, tmp_path: Path) -> None:
        assert (tmp_path / "store.sqlite").stat().st_mode & 0o777 == 0o600

    async def test_what_was_written_is_there_after_reopening(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        store = await Store.open(path)
        row = a_build()
        await store.enqueue(row, per_person=5)
        await store.close()
        again = await Store.open(path)
        assert await again.build("b-1") == row
        await again.close()

    async def test_it_can_be_closed_twice_and_says_so_when_used_after(self, tmp_path: Path) -> None:
        store = await Store.open(tmp_path / "store.sqlite")
        await store.close()
        await store.close()
        for use in (store.images, lambda: store.drop_lease("l-1")):
            with pytest.raises(StoreError, match="is not open"):
                await use()

    async def test_a_second_one_in_the_same_process_is_refused(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
            await Store.open(tmp_path / "store.sqlite")

    async def test_a_second_process_is_refused_and_named_to_the_first(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        script = (
            "import asyncio, sys, pathlib; from tljh_plugin.store import Store\n"
            "async def hold():\n"
            "    store = await Store.open(pathlib.Path(sys.argv[1]))\n"
            "    print('open', flush=True); sys.stdin.read()\n"
            "asyncio.run(hold())"
        )
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, str(path)), stdin=PIPE, stdout=PIPE
        )
        try:
            assert holder.stdout is not None
            assert await holder.stdout.readline() == b"open\n"
            with pytest.raises(StoreError, match=f"process {holder.pid} "):
                await Store.open(path)
        finally:
            holder.kill()
            await holder.wait()
        store = await Store.open(path)  # the kernel gave the lock of the killed process back
        await store.close()

    async def test_what_was_confirmed_survives_a_kill_at_any_moment(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        script = (
            "import asyncio, itertools, sys, pathlib; from tljh_plugin.store import Store\n"
            "async def write():\n"
            "    store = await Store.open(pathlib.Path(sys.argv[1]))\n"
            "    for number in itertools.count():\n"
            "        await store.audit('ann', 'what', str(number), '')\n"
            "        print(number, flush=True)\n"
            "asyncio.run(write())"
        )
        for _ in range(3):
            writer = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, str(path)), stdout=PIPE
            )
            assert writer.stdout is not None
            for _ in range(200):
                confirmed = int(await writer.stdout.readline())
            writer.kill()
            await writer.wait()
            store = await Store.open(path)
            newest = [int(entry.thing) for entry in await store.audit_entries(limit=10**6)]
            await store.close()
            assert confirmed in newest[: newest.index(0) + 1]

    async def test_a_damaged_file_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        path.write_bytes(b"not a database, but long enough to look like one " * 100)
        before = path.read_bytes()
        with pytest.raises(StoreError, match="damaged"):
            await Store.open(path)
        assert path.read_bytes() == before
        path.unlink()
        await (await Store.open(path)).close()  # and the lock was given back

    async def test_a_page_torn_in_the_middle_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        store = await Store.open(path)
        for number in range(50):
            await store.audit("ann", "x" * 200, "y" * 200, str(number))
        await store.close()
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 8192] = b"\xff" * 8192
        path.write_bytes(content)
        with pytest.raises(StoreError, match="damaged"):
            await Store.open(path)
        assert path.read_bytes() == content

    async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        await (await Store.open(path)).close()
        with sqlite3.connect(path) as db:
            db.execute(
                "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
                " VALUES ('littlest-binder', 'm9999_from_the_future', '')"
            )
        db.close()
        before = path.read_bytes()
        with pytest.raises(StoreError, match=r"newer version.*m9999_from_the_future"):
            await Store.open(path)
        assert path.read_bytes() == before

    async def test_what_each_look_asks_of_the_whole_history_is_in_the_indexes(self, store: Store) -> None:
        asked: list[str] = []
        await store._connection.read(lambda db: db.conn.set_trace_callback(asked.append))
        await store.latest_builds()
        await store.uses()
        await store.rebuild_seconds()
        await store._connection.read(lambda db: db.conn.set_trace_callback(None))

        def steps(db: Any) -> list[str]:
            return [row[3] for sql in asked for row in db.conn.execute(f"EXPLAIN QUERY PLAN {sql}")]

        found = await store._connection.read(steps)
        assert len(found) == 4
        assert all("USING COVERING INDEX" in each for each in found), found

    async def test_what_was_imported_before_that_was_noted_is_found_in_the_audit_log(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "store.sqlite"
        store = await Store.open(path)
        for name in ("one", "two"):
            row = an_image(image_id=f"sha256:{name}", name=name)
            await store.record_image(row, "root", "image.import" if name == "one" else "image.restore")
        await store.close()
        with sqlite3.connect(path) as db:
            db.execute("ALTER TABLE images DROP COLUMN imported")
            db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0012_imported'")
        db.close()
        store = await Store.open(path)
        assert {each.name: each.imported for each in await store.images()} == {"one": True, "two": False}
        await store.close()

    async def test_somebody_elses_database_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "store.sqlite"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE recipes (cake TEXT)")
        db.close()
        with pytest.raises(StoreError, match=r"something else.*recipes"):
            await Store.open(path)

    async def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="nowhere"):
            await Store.open(tmp_path / "nowhere" / "store.sqlite")

    async def test_it_is_durable_and_keeps_its_references(self, store: Store) -> None:
        def pragmas(db: object) -> list[object]:
            return [
                db.conn.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]

        assert await store._connection.read(pragmas) == ["wal", 2, 1]


class TestBuilds:
    async def test_equal_wishes_at_once_become_one_build(self, store: Store) -> None:
        wishes = [a_build(number, requested_by=f"p{number}") for number in range(20)]
        answers = await asyncio.gather(*(store.enqueue(wish, per_person=1) for wish in wishes))
        assert {answer.build.id for answer in answers if answer.build} == {"b-0"}
        assert [answer.joined for answer in answers] == [False] + [True] * 19
        assert await store.requesters("b-0") == [f"p{number}" for number in range(20)]

    async def test_another_identity_is_another_build(self, store: Store) -> None:
        await store.enqueue(a_build(1), per_person=5)
        answer = await store.enqueue(a_build(2, identity="j" * 64), per_person=5)
        assert answer.build
        assert answer.build.id == "b-2"
        assert not answer.joined

    async def test_a_private_build_is_not_joined_by_others(self, store: Store) -> None:
        await store.enqueue(a_build(1, visibility="private"), per_person=5)
        theirs = await store.enqueue(a_build(2, requested_by="bob"), per_person=5)
        assert theirs.build
        assert theirs.build.id == "b-2"
        mine = await store.enqueue(a_build(3, visibility="private"), per_person=5)
        assert mine.joined
        assert mine.build
        assert mine.build.id == "b-1"
        assert await store.active_build("i" * 64, "bob") == await store.build("b-2")

    async def test_an_ended_build_is_not_joined(self, store: Store) -> None:
        await store.enqueue(a_build(1), per_person=5)
        await store.finish_unbuilt("b-1", "failed", CANCELLED)
        answer = await store.enqueue(a_build(2), per_person=5)
        assert answer.build
        assert answer.build.id == "b-2"

    async def test_one_person_has_a_limit_and_joining_does_not_count(self, store: Store) -> None:
        for number in (1, 2):
            await store.enqueue(a_build(number, identity=str(number)), per_person=2)
        await store.enqueue(a_build(3, identity="3", requested_by="bob"), per_person=2)
        assert (await store.enqueue(a_build(4, identity="4"), per_person=2)).full == 2
        assert (await store.enqueue(a_build(5, identity="3"), per_person=2)).joined
        assert await store.build("b-4") is None

    async def test_an_image_recorded_since_the_look_makes_the_asker_look_again(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.finish_built("b-1", an_image(1, build_id="b-1"))
        assert (await store.enqueue(a_build(2), per_person=5)).look_again
        answer = await store.enqueue(a_build(2), per_person=5, considered=[an_image(1).image_id])
        assert answer.build
        assert answer.build.id == "b-2"

    async def test_a_rebuild_does_not_look_again(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.finish_built("b-1", an_image(1, build_id="b-1"))
        answer = await store.enqueue(a_build(2, rebuild=True), per_person=5)
        assert answer.build
        assert answer.build.rebuild

    async def test_a_cancelled_build_is_neither_started_nor_recorded(self, store: Store) -> None:
        await store.enqueue(a_build(1), per_person=5)
        assert await store.finish_unbuilt("b-1", "cancelled", CANCELLED)
        assert not await store.start_build("b-1")
        await started(store, a_build(2))
        await store.finish_unbuilt("b-2", "cancelled", CANCELLED)
        assert not await store.finish_built("b-2", an_image(build_id="b-2"))
        assert await store.images() == []

    async def test_the_last_to_withdraw_cancels(self, store: Store) -> None:
        await store.enqueue(a_build(1), per_person=5)
        await store.enqueue(a_build(2, requested_by="bob"), per_person=5)
        assert await store.withdraw("b-1", "ann", CANCELLED) == ["bob"]
        row = await store.build("b-1")
        assert row
        assert row.active
        assert row.requested_by == "bob"
        assert await store.withdraw("b-1", "bob", CANCELLED) == []
        row = await store.build("b-1")
        assert row
        assert row.state == "cancelled"
        assert row.error_code == "build-cancelled"

    async def test_a_requeued_build_forgets_its_worker(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.set_worker("b-1", 4711, 99)
        await store.requeue_build("b-1")
        row = await store.build("b-1")
        assert row
        assert (row.state, row.worker_pid, row.attempts) == ("queued", 0, 1)

    async def test_an_interruption_that_is_nobodys_fault_does_not_count(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.requeue_build("b-1", count_attempt=False)
        row = await store.build("b-1")
        assert row
        assert row.attempts == 0

    async def test_only_an_ended_build_settles(self, store: Store) -> None:
        await started(store, a_build(1))
        assert not await store.settle_build("b-1")
        assert [row.id for row in await store.unsettled_builds()] == ["b-1"]
        await store.finish_unbuilt("b-1", "failed", CANCELLED)
        assert await store.settle_build("b-1")
        assert await store.unsettled_builds() == []

    async def test_the_list_is_newest_first_and_paged(self, store: Store) -> None:
        for number in range(5):
            row = a_build(number, identity=str(number), created=f"2026-01-0{number + 1}")
            await store.enqueue(row, per_person=9)
        first = await store.builds(limit=2)
        assert [row.id for row in first] == ["b-4", "b-3"]
        assert [row.id for row in await store.builds(limit=9, before="b-3")] == ["b-2", "b-1", "b-0"]
        assert await store.builds(states=["built", "failed"]) == []
        assert len(await store.builds(states=["queued"])) == 5

    async def test_who_joined_a_build_asked_for_it(self, store: Store) -> None:
        await store.enqueue(a_build(1, identity="x", requested_by="ann"), per_person=9)
        await store.enqueue(a_build(2, identity="x", requested_by="bob"), per_person=9)
        await store.enqueue(a_build(3, identity="y", requested_by="bob"), per_person=9)
        assert [row.id for row in await store.builds(asked_by="ann")] == ["b-1"]
        assert sorted(row.id for row in await store.builds(asked_by="bob")) == ["b-1", "b-3"]
        assert await store.builds(asked_by="eve") == []


class TestImages:
    async def test_a_rebuild_that_gives_the_same_image_keeps_what_people_decided(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.finish_built("b-1", an_image(build_id="b-1"))
        await store.update_image(an_image().image_id, title="Our course", pinned=True)
        await started(store, a_build(2, rebuild=True, requested_by="bob"))
        await store.finish_built("b-2", an_image(build_id="b-2", recipe="newer", built_by="bob"))
        image = await store.image(an_image().image_id)
        assert image
        assert (image.title, image.pinned, image.built_by) == ("Our course", True, "ann")
        assert (image.recipe, image.build_id) == ("newer", "b-2")

    async def test_sharing_opens_the_image_and_its_build_and_outlives_a_restart(
        self, store: Store, tmp_path: Path
    ) -> None:
        await started(store, a_build(1, visibility="private"))
        await store.finish_built("b-1", an_image(build_id="b-1", visibility="private"))
        assert await store.share_image(an_image().image_id, "group", ["staff", "physics"])
        await store.close()
        again = await Store.open(tmp_path / "store.sqlite")
        for row in (await again.image(an_image().image_id), await again.build("b-1")):
            assert row
            assert (row.visibility, row.groups) == ("group", ("physics", "staff"))
        assert await again.share_image(an_image().image_id, "everyone", ["left", "over"])
        row = await again.image(an_image().image_id)
        assert row
        assert (row.visibility, row.groups) == ("everyone", ())
        assert not await again.share_image("sha256:none", "everyone", ())
        await again.close()

    async def test_a_rebuild_by_its_owner_keeps_an_image_closed(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.finish_built("b-1", an_image(build_id="b-1"))
        await store.share_image(an_image().image_id, "group", ["physics"])
        await started(store, a_build(2, rebuild=True))
        await store.finish_built("b-2", an_image(build_id="b-2"))
        image = await store.image(an_image().image_id)
        assert image
        assert (image.visibility, image.groups) == ("group", ("physics",))

    async def test_what_somebody_else_could_build_as_well_is_for_everyone(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.finish_built("b-1", an_image(build_id="b-1"))
        await store.share_image(an_image().image_id, "private", ())
        theirs = a_build(2, requested_by="bob")
        await store.enqueue(theirs, per_person=9, considered=[an_image().image_id])
        assert await store.start_build(theirs.id)
        await store.finish_built("b-2", an_image(build_id="b-2", built_by="bob"))
        image = await store.image(an_image().image_id)
        assert image
        assert (image.visibility, image.built_by) == ("everyone", "ann")

    async def test_what_an_administrator_decided_stays_decided(self, store: Store) -> None:
        await started(store, a_build(1))
        await store.finish_built("b-1", an_image(build_id="b-1"))
        await store.share_image(an_image().image_id, "private", (), decided=True)
        await store.share_image(an_image().image_id, "private", ())
        await started(store, a_build(2, rebuild=True))
        await store.finish_built("b-2", an_image(build_id="b-2"))
        image = await store.image(an_image().image_id)
        assert image
        assert image.decided

    async def test_of_what_was_decided_before_the_audit_log_tells(self, store: Store, tmp_path: Path) -> None:
        for number in (1, 2, 3):
            await started(store, a_build(number, rebuild=True))
            image = an_image(number, build_id=f"b-{number}", name=f"i:{number}")
            await store.finish_built(f"b-{number}", image)
        await store.audit("root", "image.share", "i:1", "private")
        await store.audit("ann", "image.share", "i:2", "private")
        await store.audit("ann", "image.pin", "i:3", "without end")
        await store.close()
        with sqlite3.connect(tmp_path / "store.sqlite") as db:
            db.execute("ALTER TABLE images DROP COLUMN decided")
            db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0014_decided'")
        db.close()
        again = await Store.open(tmp_path / "store.sqlite")
        assert {each.name: each.decided for each in await again.images()} == {
            "i:1": True,
            "i:2": False,
            "i:3": True,
        }
        await again.close()

    async def test_forgetting_an_image_keeps_its_build_and_uses(self, store: Store) -> None:
        await started(store, a_build(1))
        image = an_image(build_id="b-1")
        await store.finish_built("b-1", image)
        await store.add_use(image.image_id, "ann", "s")
        assert await store.forget_image(image.image_id)
        assert not await store.forget_image(image.image_id)
        assert await store.image(image.image_id) is None
        assert (await store.build("b-1")) is not None
        assert (await store.uses())[image.image_id].launches == 1

    async def test_uses_are_counted_and_dated(self, store: Store) -> None:
        for person in ("ann", "bob"):
            await store.add_use("sha256:1", person, "s")
        use = (await store.uses())["sha256:1"]
        assert use.launches == 2
        assert use.last_used <= utc_now()

    async def test_an_image_of_an_unknown_build_is_refused(self, store: Store) -> None:
        await started(store, a_build(1))
        with pytest.raises(StoreError):
            await store.finish_built("b-1", an_image(build_id="b-nobody"))
        row = await store.build("b-1")
        assert row
        assert row.state == "running"

    async def test_nothing_changes_if_nothing_is_given(self, store: Store) -> None:
        assert not await store.update_image("sha256:none")


class TestProjects:
    async def test_they_are_listed_by_owner_and_repository(self, store: Store) -> None:
        await store.add_project(a_project())
        await store.add_project(a_project(owner="bob", path="/srv/bob/x"))
        await store.add_project(a_project(id="other", repository="https://x", path="/srv/ann/other"))
        assert len(await store.projects("ann")) == 2
        assert [p.id for p in await store.projects("ann", "https://x")] == ["other"]
        assert await store.project("bob", "other") is None

    async def test_two_projects_never_share_a_folder(self, store: Store) -> None:
        await store.add_project(a_project())
        with pytest.raises(StoreError, match="exists already"):
            await store.add_project(a_project(id="second"))

    async def test_use_is_noted_with_its_image(self, store: Store) -> None:
        await store.add_project(a_project())
        assert await store.use_project("ann", "a-b-12345678", "sha256:2")
        project = await store.project("ann", "a-b-12345678")
        assert project
        assert project.image_id == "sha256:2"
        assert project.last_used


class TestAudit:
    async def test_nobody_changes_or_deletes_an_entry(self, store: Store) -> None:
        await store.audit("ann", "image.delete", "x", "deleted")
        for sql in ("UPDATE audit SET who = 'bob'", "DELETE FROM audit"):
            with pytest.raises(StoreError, match="append only"):
                await store._change(sql, [])
        [entry] = await store.audit_entries()
        assert (entry.who, entry.what, entry.thing, entry.result) == ("ann", "image.delete", "x", "deleted")

    async def test_entries_are_newest_first_and_paged(self, store: Store) -> None:
        for number in range(3):
            await store.audit("ann", "what", str(number), "")
        entries = await store.audit_entries(limit=2)
        assert [entry.thing for entry in entries] == ["2", "1"]
        assert [entry.thing for entry in await store.audit_entries(before=entries[-1].number)] == ["0"]


class TestSuccession:
    """An image that a build made in place of another one."""

    @staticmethod
    async def built(store: Store, number: int, image: ImageRow) -> None:
        row = a_build(number, commit=image.commit, identity=image.identity, rebuild=True)
        await started(store, row)
        assert await store.finish_built(row.id, replace(image, build_id=row.id))

    @staticmethod
    async def decided(store: Store, image_id: str, **changes: str | bool) -> None:
        assert await store.change_image(image_id, changes, "root", {})

    async def test_what_was_decided_goes_to_the_new_one(self, store: Store) -> None:
        await self.built(store, 1, an_image(1))
        await self.decided(store, an_image(1).image_id, title="Course", pinned=True, pin_reason="exam")
        await self.built(store, 2, an_image(2))
        await store.add_successor("b-2", an_image(1).image_id)
        assert await store.succeed("b-2", "system")
        old, new = [await store.image(an_image(number).image_id) for number in (1, 2)]
        assert old
        assert new
        assert (new.title, new.pinned, new.pin_reason, old.pinned) == ("Course", True, "exam", False)
        assert new.decided

    async def test_one_that_was_there_keeps_its_pin_and_title(self, store: Store) -> None:
        await self.built(store, 1, an_image(1))
        await self.built(store, 2, an_image(2))
        await self.decided(store, an_image(2).image_id, title="Paper", pinned=True, pin_reason="cited")
        await self.built(store, 3, an_image(2))
        await store.add_successor("b-3", an_image(1).image_id)
        assert await store.succeed("b-3", "system")
        new = await store.image(an_image(2).image_id)
        assert new
        assert (new.title, new.pinned, new.pin_reason) == ("Paper", True, "cited")

    async def test_a_pin_goes_over_to_one_that_was_there(self, store: Store) -> None:
        await self.built(store, 1, an_image(1))
        await self.decided(store, an_image(1).image_id, title="Course", pinned=True, pin_reason="exam")
        await self.built(store, 2, an_image(2))
        await self.built(store, 3, an_image(2))
        await store.add_successor("b-3", an_image(1).image_id)
        assert await store.succeed("b-3", "system")
        old, new = [await store.image(an_image(number).image_id) for number in (1, 2)]
        assert old
        assert new
        assert (new.title, new.pinned, new.pin_reason, old.pinned) == ("a/b", True, "exam", False)

    async def test_a_pin_set_meanwhile_is_not_lowered(self, store: Store) -> None:
        await self.built(store, 1, an_image(1))
        await self.built(store, 2, an_image(2))
        await self.decided(store, an_image(2).image_id, pinned=True, pin_reason="cited")
        await store.add_successor("b-2", an_image(1).image_id)
        assert await store.succeed("b-2", "system")
        new = await store.image(an_image(2).image_id)
        assert new
        assert (new.pinned, new.pin_reason) == (True, "cited")
