"""Promises of the queue: hit, join, limits, cancel, restart. Building is a stand-in that waits at a gate."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin import request_ids
from tljh_plugin.build import log
from tljh_plugin.build.identity import building_name
from tljh_plugin.build.processes import MARK, process_facts
from tljh_plugin.build.queue import MAX_ATTEMPTS, Queue
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.errors import (
    BuildCancelled,
    BuildFailed,
    DiskLow,
    EngineUnavailable,
    Forbidden,
    ImageRetired,
    NotFound,
    QueueFull,
    ServiceDown,
)
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.source.credentials import Credentials, Login
from tljh_plugin.source.resolve import PinnedRepo
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import BuildRow, ImageRow, Store, utc_now
from tljh_plugin.wire import BuildView, Credential, LogLine, Person

ANN, BOB, ROOT = Person(name="ann"), Person(name="bob"), Person(name="root", admin=True)


def pinned(ref: str = "main", commit: str = "c" * 40, repository: str = "a/b") -> PinnedRepo:
    spec = parse_link(f"gh/{repository}/{ref}")
    return PinnedRepo(spec, spec.normal_url, commit)


class Gate:
    """Stands in for the pipeline: says that it builds, waits until it is let through, and records."""

    def __init__(self, store: Store, docker: SmallDocker) -> None:
        self.store = store
        self.docker = docker
        self.open = asyncio.Event()
        self.inside: list[str] = []
        self.order: list[str] = []
        self.logins: list[object] = []
        self.most = 0
        self.tidied: list[str] = []
        self.error: Exception | None = None
        self.disk: Exception | None = None
        self.tidy_error: Exception | None = None

    async def check_disk(self) -> None:
        if self.disk is not None:
            raise self.disk

    async def build(self, row: BuildRow, report: object, login: object = None) -> ImageRow:
        self.logins.append(login)
        await report.reach("fetching", 1, "Fetching.")
        self.inside.append(row.id)
        self.order.append(row.id)
        self.most = max(self.most, len(self.inside))
        try:
            report.say(f"building {row.id}")
            await report.reach("building", 40)
            await self.open.wait()
            if self.error is not None:
                raise self.error
            return await self._record(row)
        finally:
            self.inside.remove(row.id)

    async def _record(self, row: BuildRow) -> ImageRow:
        image = ImageRow(
            image_id=f"sha256:{row.id}",
            name=f"littlest-binder/a-b:{row.id}",
            identity=row.identity,
            url=row.url,
            commit=row.commit,
            subdir=row.subdir,
            platform=row.platform,
            spec=row.spec,
            asked_ref=row.asked_ref,
            title="a/b",
            built_by=row.requested_by,
            build_id=row.id,
            created=utc_now(),
            size=1,
            recipe="r",
            home="/home/jovyan",
            workdir="/home/jovyan",
            visibility=row.visibility,
        )
        if not await self.store.finish_built(row.id, image):
            raise BuildCancelled("cancelled", "again")
        self.docker.add(image.image_id, image.name)
        return image

    async def know_recipe(self) -> None:
        return

    async def tidy(self, row: BuildRow) -> None:
        if self.tidy_error is not None:
            raise self.tidy_error
        self.tidied.append(row.id)


class GitHost:
    """Stands in for the resolver: says whether a repository needs the login that was offered."""

    def __init__(self) -> None:
        self.private = True
        self.asked = 0

    async def prove(self, wanted: PinnedRepo) -> PinnedRepo:
        self.asked += 1
        return replace(wanted, login=wanted.login if self.private else None, proven=True)


class House:
    """A queue with all that it needs; `restart` is what a new service does on the same state."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.docker = SmallDocker()
        self.host = GitHost()

    async def open(self) -> House:
        self.store = await Store.open(self.settings.store_path)
        self.gate = Gate(self.store, self.docker)
        self.inventory = Inventory(self.store, self.docker)
        self.credentials = Credentials(self.settings)
        self.queue = Queue(
            self.settings,
            self.store,
            self.docker,
            self.host,
            None,
            self.inventory,
            credentials=self.credentials,
            pipeline=self.gate,
        )
        await self.queue.start()
        return self

    async def close(self) -> None:
        await self.queue.stop()
        await self.store.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def request(self, person: Person = ANN, **what: str) -> BuildView:
        return await self.queue.request(person, pinned(**what))

    async def log(self, build_id: str, after: int = 0) -> list[LogLine]:
        return [line async for line in self.queue.follow(build_id, after)]


@pytest.fixture
def concurrent() -> int:
    return 2


@pytest.fixture
async def house(tmp_path: Path, concurrent: int) -> AsyncIterator[House]:
    section = {"build": {"concurrent": concurrent, "per_person": 3}}
    settings = from_mapping(section, platform="tljh", state_dir=tmp_path / "state")
    ensure_state(settings)
    opened = await House(settings).open()
    yield opened
    await opened.close()


class TestAsking:
    async def test_twenty_equal_requests_at_once_are_one_build_for_all(self, house: House) -> None:
        people = [Person(name=f"p{number}") for number in range(20)]
        views = await asyncio.gather(*(house.request(person) for person in people))
        assert len({view.id for view in views}) == 1
        assert [view.joined for view in views].count(False) == 1
        house.gate.open.set()
        ended = await asyncio.gather(*(house.queue.finished(view.id) for view in views))
        assert {view.image_id for view in ended} == {f"sha256:{views[0].id}"}
        assert house.gate.order == [views[0].id]

    async def test_two_refs_at_one_commit_are_one_build(self, house: House) -> None:
        one, other = await house.request(ref="main"), await house.request(BOB, ref="v1.0")
        assert one.id == other.id

    async def test_what_was_built_is_a_hit(self, house: House) -> None:
        house.gate.open.set()
        built = await house.queue.finished((await house.request()).id)
        hit = await house.request(BOB)
        assert (hit.hit, hit.state, hit.image_id, hit.id) == (True, "built", built.image_id, built.id)
        assert await house.queue.state_of(BOB, pinned()) == hit

    async def test_a_build_that_ends_between_look_and_wish_is_a_hit(self, house: House) -> None:
        view = await house.request()
        look = house.inventory.look

        async def look_while_it_ends(*what: object) -> object:
            found = await look(*what)
            house.gate.open.set()
            await house.queue.finished(view.id)
            return found

        house.inventory.look = look_while_it_ends
        again = await house.request(BOB)
        assert (again.hit, again.id) == (True, view.id)
        assert house.gate.order == [view.id]

    async def test_a_rebuild_is_a_build(self, house: House) -> None:
        house.gate.open.set()
        first = await house.queue.finished((await house.request()).id)
        again = await house.queue.request(ANN, pinned(), rebuild=True)
        assert not again.hit
        assert again.id != first.id
        assert (await house.queue.finished(again.id)).state == "built"

    async def test_a_build_without_cache_is_a_rebuild(self, house: House) -> None:
        house.gate.open.set()
        first = await house.queue.finished((await house.request()).id)
        again = await house.queue.request(ANN, pinned(), no_cache=True, what="build.rebuild")
        assert (again.hit, again.id == first.id, again.no_cache, first.no_cache) == (
            False,
            False,
            True,
            False,
        )
        row = await house.store.build(again.id)
        assert row
        assert (row.rebuild, row.no_cache) == (True, True)
        assert "build.rebuild" in [entry.what for entry in await house.store.audit_entries()]

    async def test_an_image_that_was_removed_behind_our_back_is_built_again(self, house: House) -> None:
        house.gate.open.set()
        first = await house.queue.finished((await house.request()).id)
        del house.docker.names[first.image_id]
        again = await house.request()
        assert not again.hit
        assert again.id != first.id

    async def test_a_failed_build_is_no_hit(self, house: House) -> None:
        house.gate.error = BuildFailed("no", "yes")
        house.gate.open.set()
        first = await house.queue.finished((await house.request()).id)
        assert (await house.request()).id != first.id

    async def test_without_docker_a_request_fails_at_once(self, house: House) -> None:
        house.docker.down = True
        with pytest.raises(EngineUnavailable):
            await house.request()
        assert await house.queue.list() == []

    async def test_a_retired_image_is_built_again_for_administrators_only(self, house: House) -> None:
        house.gate.open.set()
        built = await house.queue.finished((await house.request()).id)
        await house.store.change_image(built.image_id, {"retired": True}, "root", {})
        for rebuild in (False, True):
            with pytest.raises(ImageRetired, match="a/b was retired"):
                await house.queue.request(ANN, pinned(), rebuild)
        with pytest.raises(ImageRetired):
            await house.queue.request(ROOT, pinned())
        with pytest.raises(ImageRetired):
            await house.queue.state_of(ANN, pinned())
        again = await house.queue.request(ROOT, pinned(), rebuild=True)
        assert not again.hit
        fresh = await house.queue.finished(again.id)
        assert (await house.request()).image_id == fresh.image_id, "the new one takes its place"

    async def test_what_is_missing_is_told_without_starting_anything(self, house: House) -> None:
        assert await house.queue.state_of(ANN, pinned()) is None
        view = await house.request()
        state = await house.queue.state_of(BOB, pinned())
        assert state
        assert state.id == view.id
        assert len(await house.queue.list()) == 1


class TestLimits:
    async def test_so_many_at_once_and_the_others_wait(self, house: House) -> None:
        people = [Person(name=f"p{number}") for number in range(5)]
        views = []
        for number, person in enumerate(people):
            views.append(await house.request(person, commit=str(number) * 40))
        await until(lambda: len(house.gate.inside) == 2)
        states = [await house.queue.get(view.id) for view in views]
        assert [state.state for state in states] == ["running"] * 2 + ["queued"] * 3
        assert [state.position for state in states] == [0, 0, 1, 2, 3]
        house.gate.open.set()
        for view in views:
            await house.queue.finished(view.id)
        assert house.gate.most == 2
        assert sorted(house.gate.order) == sorted(view.id for view in views)

    @pytest.mark.parametrize("concurrent", [1])
    async def test_first_come_first_served(self, house: House) -> None:
        views = await asyncio.gather(
            *(house.request(Person(name=f"p{n}"), commit=str(n) * 40) for n in range(9))
        )
        waiting = sorted(views, key=lambda view: view.position)
        house.gate.open.set()
        for view in views:
            await house.queue.finished(view.id)
        assert house.gate.order == [view.id for view in waiting]

    async def test_one_person_cannot_fill_the_queue(self, house: House) -> None:
        for number in range(3):
            await house.request(commit=str(number) * 40)
        with pytest.raises(QueueFull, match="3 builds"):
            await house.request(commit="d" * 40)
        await house.request(BOB, commit="d" * 40)
        assert (await house.request(commit="d" * 40)).joined

    async def test_on_a_full_disk_nothing_is_queued_but_joining_goes_on(self, house: House) -> None:
        view = await house.request()
        house.gate.disk = DiskLow("full", "free some")
        with pytest.raises(DiskLow):
            await house.request(commit="d" * 40)
        assert (await house.request(BOB)).id == view.id


class TestEnds:
    async def test_the_last_line_tells_that_it_was_built(self, house: House) -> None:
        house.gate.open.set()
        view = await house.queue.finished((await house.request()).id)
        last = (await house.log(view.id))[-1]
        assert (last.phase, last.progress, last.image_id) == ("built", 100, view.image_id)
        assert house.gate.tidied == [view.id]
        assert await house.store.unsettled_builds() == []

    async def test_an_error_is_in_the_row_and_in_the_last_line(self, house: House) -> None:
        house.gate.error = BuildFailed("There is no package numpyy.", "Correct line 3.", code="build-x")
        house.gate.open.set()
        view = await house.queue.finished((await house.request()).id)
        last = (await house.log(view.id))[-1]
        assert (view.state, view.error) == ("failed", last.error)
        assert last.error
        assert (last.error.code, last.error.next) == ("build-x", "Correct line 3.")

    async def test_a_mistake_of_ours_ends_the_build_as_well(self, house: House) -> None:
        house.gate.error = ZeroDivisionError("division by zero")
        house.gate.open.set()
        view = await house.queue.finished((await house.request()).id)
        assert view.state == "failed"
        assert view.error
        assert view.error.code == "unexpected"

    async def test_docker_gone_at_the_end_is_come_back_to(self, house: House) -> None:
        house.gate.tidy_error = EngineUnavailable("down", "start it")
        house.gate.error = BuildFailed("no", "yes")
        house.gate.open.set()
        view = await house.queue.finished((await house.request()).id)
        assert (await house.log(view.id))[-1].phase == "failed"
        assert len(await house.store.unsettled_builds()) == 1
        await house.restart()
        assert house.gate.tidied == [view.id]
        assert await house.store.unsettled_builds() == []
        phases = [line.phase for line in await house.log(view.id)]
        assert phases.count("failed") == 1

    async def test_an_image_that_docker_names_after_the_end_of_its_build_is_let_go(
        self, house: House
    ) -> None:
        house.gate.error = BuildFailed("The process of the build was killed.", "again")
        house.gate.open.set()
        ended = await house.queue.finished((await house.request()).id)
        house.gate.open.clear()
        running = await house.request(ref="other", commit="d" * 40)
        house.docker.add("sha256:late", "littlest-binder/mine:1", building_name(ended.id))
        house.docker.add("sha256:now", building_name(running.id))
        house.docker.add("sha256:import", building_name("import-0123456789abcdef"))
        house.docker.add("sha256:another", building_name("b-20261122-0123456789"))  # on the same Docker
        await house.inventory.refresh()
        house.gate.tidied.clear()
        await house.queue.tidy()
        assert house.gate.tidied == [ended.id]

    async def test_a_final_line_for_which_there_was_no_room_is_written_later(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        view = await house.request()
        house.gate.error = BuildFailed("no", "yes")
        with monkeypatch.context() as patch:
            patch.setattr("tljh_plugin.build.log._write_whole", full)
            house.gate.open.set()
            await house.queue.finished(view.id)
        assert len(await house.store.unsettled_builds()) == 1
        await house.queue.tidy()
        assert await house.store.unsettled_builds() == []
        lines = house.settings.log_dir.joinpath(f"{view.id}.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["phase"] == "failed"

    async def test_a_log_that_is_gone_still_has_an_end(self, house: House) -> None:
        house.gate.open.set()
        view = await house.queue.finished((await house.request()).id)
        (house.settings.log_dir / f"{view.id}.jsonl").unlink()
        [line] = await house.log(view.id)
        assert line.phase == "built"


class TestFollowing:
    async def test_a_joiner_sees_the_whole_log_and_can_resume(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        await house.request(BOB)
        reading = asyncio.create_task(house.log(view.id))
        house.gate.open.set()
        lines = await reading
        assert [line.n for line in lines] == list(range(1, len(lines) + 1))
        assert f"building {view.id}" in [line.text for line in lines]
        assert await house.log(view.id) == lines
        assert await house.log(view.id, after=2) == lines[2:]
        assert await house.log(view.id, after=len(lines)) == []

    async def test_progress_is_in_the_view_while_it_runs(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        await until(lambda: _progress(house, view.id))
        running = await house.queue.get(view.id)
        assert (running.phase, running.progress) == ("building", 40)

    async def test_unknown_builds_and_others_private_ones_are_not_found(self, house: House) -> None:
        with pytest.raises(NotFound):
            await house.queue.get("b-none")
        with pytest.raises(NotFound):
            await house.log("b-none")
        view = await house.request()
        await house.store._change("UPDATE builds SET visibility = 'private'", [])
        with pytest.raises(NotFound):
            await house.queue.get(view.id, BOB)
        with pytest.raises(NotFound):
            await house.queue.cancel(view.id, BOB)
        assert await house.queue.list(BOB) == []
        assert len(await house.queue.list(ANN)) == 1
        assert len(await house.queue.list(ROOT)) == 1


async def _progress(house: House, build_id: str) -> bool:
    return (await house.queue.get(build_id)).progress == 40


async def _was_audited(house: House, what: str) -> bool:
    return what in [entry.what for entry in await house.store.audit_entries()]


class TestCancelling:
    async def test_a_running_build_ends_and_says_who_ended_it(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        cancelled = await house.queue.cancel(view.id, ANN)
        assert cancelled.state == "cancelled"
        assert house.gate.inside == []
        last = (await house.log(view.id))[-1]
        assert last.phase == "cancelled"
        assert "cancelled by ann" in last.text
        assert await house.store.unsettled_builds() == []

    async def test_a_build_that_is_cancelled_while_its_log_is_opened_has_an_end_in_it(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opening, go = threading.Event(), threading.Event()
        reopen = log._reopen

        def slowly(path: Path) -> object:
            opening.set()
            go.wait(30)
            return reopen(path)

        monkeypatch.setattr(log, "_reopen", slowly)
        view = await house.request()
        await until(opening.is_set)
        cancelling = asyncio.ensure_future(house.queue.cancel(view.id, ANN))
        await until(lambda: _was_audited(house, "build.cancel"))  # and with it the work was cancelled
        go.set()
        assert (await cancelling).state == "cancelled"
        lines = house.settings.log_dir.joinpath(f"{view.id}.jsonl").read_text().splitlines()
        assert [json.loads(line)["phase"] for line in lines] == ["cancelled"]

    async def test_a_queued_build_never_starts(self, house: House) -> None:
        for number in range(3):
            view = await house.request(commit=str(number) * 40)
        await until(lambda: len(house.gate.inside) == 2)
        assert (await house.queue.cancel(view.id, ANN)).state == "cancelled"
        house.gate.open.set()
        for each in await house.queue.list():
            await house.queue.finished(each.id)
        assert view.id not in house.gate.order

    async def test_one_of_two_only_withdraws(self, house: House) -> None:
        view = await house.request()
        await house.request(BOB)
        still = await house.queue.cancel(view.id, ANN)
        assert still.state in ("queued", "running")
        assert still.requested_by == "bob"
        house.gate.open.set()
        assert (await house.queue.finished(view.id)).state == "built"
        assert any("withdrew" in line.text for line in await house.log(view.id))

    async def test_the_last_one_out_cancels(self, house: House) -> None:
        view = await house.request()
        await house.request(BOB)
        await house.queue.cancel(view.id, ANN)
        assert (await house.queue.cancel(view.id, BOB)).state == "cancelled"

    async def test_an_administrator_cancels_for_all(self, house: House) -> None:
        view = await house.request()
        await house.request(BOB)
        assert (await house.queue.cancel(view.id, ROOT)).state == "cancelled"

    async def test_somebody_who_did_not_ask_cannot(self, house: House) -> None:
        view = await house.request()
        with pytest.raises(Forbidden):
            await house.queue.cancel(view.id, BOB)
        assert (await house.queue.get(view.id)).state in ("queued", "running")

    async def test_what_has_ended_stays_as_it_ended(self, house: House) -> None:
        house.gate.open.set()
        view = await house.queue.finished((await house.request()).id)
        assert (await house.queue.cancel(view.id, ANN)).state == "built"

    async def test_what_ends_in_the_moment_of_the_cancel_stays_as_it_ended(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        requesters = house.store.requesters

        async def while_it_is_recorded(build_id: str) -> list[str]:
            found = await requesters(build_id)
            house.gate.open.set()
            await until(lambda: house.store.image(f"sha256:{view.id}"))
            return found

        house.store.requesters = while_it_is_recorded
        assert (await house.queue.cancel(view.id, ANN)).state == "built"
        assert not await _was_audited(house, "build.cancel")

    async def test_a_wish_after_the_cancel_is_a_new_build(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        cancelled, again = await asyncio.gather(house.queue.cancel(view.id, ANN), house.request(BOB))
        if again.joined:  # Bob came first: then Ann only withdrew
            assert cancelled.state == "running"
        else:
            assert again.id != view.id
        house.gate.open.set()
        assert (await house.queue.finished(again.id)).state == "built"

    async def test_cancelling_at_the_moment_of_the_end_is_one_or_the_other(self, house: House) -> None:
        for number in range(10):
            house.gate.open.clear()
            view = await house.request(commit=f"{number:040x}")
            await until(lambda: house.gate.inside)
            house.gate.open.set()
            for _ in range(number):
                await asyncio.sleep(0)
            await house.queue.cancel(view.id, ANN)
            ended = await house.queue.finished(view.id)
            recorded = await house.store.image(f"sha256:{view.id}")
            assert (ended.state == "built") == (recorded is not None)
            assert ended.state in ("built", "cancelled")
            phases = [line.phase for line in await house.log(view.id)]
            assert phases[-1] == ended.state


class TestRestart:
    async def test_an_orderly_stop_puts_builds_back_and_the_next_start_takes_them_up(
        self, house: House
    ) -> None:
        running = await house.request()
        await until(lambda: house.gate.inside)
        reading = asyncio.create_task(house.log(running.id))
        await house.restart()
        seen = await reading  # let go, to come back by itself
        assert seen[-1].phase == "queued"
        house.gate.open.set()
        assert (await house.queue.finished(running.id)).state == "built"
        lines = await house.log(running.id)
        assert lines[: len(seen)] == seen
        assert [line.n for line in lines] == list(range(1, len(lines) + 1))
        row = await house.store.build(running.id)
        assert row
        assert row.attempts == 1

    async def test_who_follows_a_log_is_let_go_before_the_store_is_asked_again(self, house: House) -> None:
        running = await house.request()
        await until(lambda: house.gate.inside)
        reader = house.queue.follow(running.id)
        await anext(reader)
        await house.close()
        rest = [line.phase async for line in reader]
        assert rest[-1] == "queued"
        await house.open()

    async def test_after_a_crash_the_log_says_so_and_the_build_starts_again(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        await self.crash(house)
        await house.open()
        house.gate.open.set()
        assert (await house.queue.finished(view.id)).state == "built"
        texts = [line.text for line in await house.log(view.id)]
        assert "The service was restarted; the build starts again." in texts
        row = await house.store.build(view.id)
        assert row
        assert row.attempts == 2

    async def test_it_still_belongs_to_the_request_that_began_it(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Who looks for a request's id in the logs finds its build also after a restart."""
        caplog.set_level(logging.INFO, "littlest_binder.queue")
        said: list[tuple[str, str]] = []
        listening = logging.Handler()
        listening.emit = lambda record: said.append((request_ids.current(), record.getMessage()))  # type: ignore[method-assign]
        logging.getLogger("littlest_binder.queue").addHandler(listening)
        try:
            with request_ids.belonging("of-ann"):
                view = await house.request()
            with request_ids.belonging("of-bob"):
                assert (await house.request(BOB)).joined
            await until(lambda: house.gate.inside)
            await house.restart()
            house.gate.open.set()
            assert (await house.queue.finished(view.id)).request == "of-ann"
        finally:
            logging.getLogger("littlest_binder.queue").removeHandler(listening)
        begun = f"Build {view.id} of {view.spec} begins"
        assert said.count(("of-ann", begun)) == 2
        assert ("of-ann", f"Build {view.id} ended: built ") in said
        assert ("of-bob", f"Joined build {view.id} of request of-ann") in said

    async def crash(self, house: House) -> None:
        """As far as one process can: everything ends, and nothing is noted any more."""
        await house.store.close()
        for entry in list(house.queue._entries.values()):
            entry.conclusion.cancel()
            entry.work.cancel()
            await asyncio.gather(entry.work, entry.conclusion, return_exceptions=True)

    @pytest.mark.parametrize("concurrent", [1])
    async def test_the_order_of_the_queue_is_kept(self, house: House) -> None:
        views = []
        for number, person in enumerate([ANN, BOB, ROOT, ANN, BOB]):
            views.append(await house.request(person, commit=str(number) * 40))
        await house.restart()
        house.gate.open.set()
        for view in views:
            assert (await house.queue.finished(view.id)).state == "built"
        assert house.gate.order == [view.id for view in views]

    async def test_a_build_that_takes_the_service_down_is_given_up(self, house: House) -> None:
        view = await house.request()
        for _ in range(MAX_ATTEMPTS):
            await until(lambda: house.gate.inside)
            await self.crash(house)
            await house.open()
        ended = await house.queue.finished(view.id)
        assert ended.state == "failed"
        assert ended.error
        assert ended.error.code == "build-interrupted"
        assert (await house.log(view.id))[-1].phase == "failed"

    async def test_the_worker_of_a_dead_service_is_ended(self, house: House) -> None:
        view = await house.request()
        await until(lambda: house.gate.inside)
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "import time; time.sleep(600)"),
            start_new_session=True,
            env={**os.environ, MARK: view.id},
        )
        facts = process_facts(worker.pid)
        assert facts
        await house.store.set_worker(view.id, worker.pid, facts.start)
        await self.crash(house)
        await house.open()
        assert await asyncio.wait_for(worker.wait(), 60) < 0

    async def test_a_request_that_is_under_way_when_it_stops_begins_nothing(self, house: House) -> None:
        look = house.inventory.look

        async def look_while_it_stops(*what: object) -> object:
            await house.queue.stop()
            return await look(*what)

        house.inventory.look = look_while_it_stops
        with pytest.raises(ServiceDown):
            await house.request()
        assert await house.queue.list() == []

    async def test_a_build_that_is_queued_when_it_stops_waits_for_the_next_start(self, house: House) -> None:
        enqueue = house.store.enqueue

        async def enqueue_while_it_stops(*what: object, **more: object) -> object:
            await house.queue.stop()
            return await enqueue(*what, **more)

        house.store.enqueue = enqueue_while_it_stops
        view = await house.request()
        assert view.state == "queued"
        assert not house.queue._entries
        await house.restart()
        house.gate.open.set()
        assert (await house.queue.finished(view.id)).state == "built"

    async def test_nothing_is_taken_in_while_it_stops(self, house: House) -> None:
        await house.queue.stop()
        with pytest.raises(ServiceDown):
            await house.request()

    async def test_it_starts_without_docker(self, house: House) -> None:
        await house.request()
        house.docker.down = True
        await house.restart()
        assert len(await house.queue.list(states=["queued", "running"])) == 1


SECRET = "gh-token-that-nobody-may-see"


def with_login(house: House, person: Person = ANN) -> PinnedRepo:
    """What `Lookups` hands over when the person gave a credential for the host."""
    wanted = pinned()
    login = house.credentials.give(person, wanted.url, Credential(password=SECRET))
    return replace(wanted, login=login)


class TestPrivateRepositories:
    async def test_what_needs_a_credential_is_its_builders_alone(self, house: House) -> None:
        view = await house.queue.request(ANN, with_login(house))
        assert view.visibility == "private"
        with pytest.raises(NotFound):
            await house.queue.get(view.id, BOB)
        assert await house.queue.state_of(BOB, pinned()) is None
        guess = await house.request(BOB)
        assert (guess.id == view.id, guess.joined, guess.visibility) == (False, False, "everyone")
        again = await house.queue.request(ANN, with_login(house))
        assert (again.id, again.joined) == (view.id, True)
        await house.queue.cancel(guess.id, BOB)  # a real one fails: the host gives him nothing
        house.gate.open.set()
        built = await house.queue.finished(view.id)
        hit = await house.request(ANN)
        assert (hit.image_id, hit.visibility) == (built.image_id, "private")

    async def test_a_guessed_commit_is_no_hit_for_others_and_administrators(self, house: House) -> None:
        house.gate.open.set()
        await house.queue.finished((await house.queue.request(ANN, with_login(house))).id)
        for person in (BOB, ROOT):
            assert await house.queue.state_of(person, pinned()) is None

    async def test_a_hit_asks_no_host(self, house: House) -> None:
        house.gate.open.set()
        await house.queue.finished((await house.queue.request(ANN, with_login(house))).id)
        asked = house.host.asked
        assert (await house.queue.request(ANN, with_login(house))).hit
        assert house.host.asked == asked

    async def test_what_everyone_may_read_is_for_everyone_credential_or_not(self, house: House) -> None:
        house.host.private = False
        view = await house.queue.request(ANN, with_login(house))
        assert view.visibility == "everyone"
        assert (await house.request(BOB)).joined
        await until(lambda: house.gate.inside)
        assert house.gate.logins == [None]

    async def test_the_credential_is_held_until_the_build_has_ended(self, house: House) -> None:
        view = await house.queue.request(ANN, with_login(house))
        await until(lambda: house.gate.inside)
        [login] = house.gate.logins
        assert isinstance(login, Login)
        assert await house.credentials.find(ANN, pinned().url) is login
        house.gate.open.set()
        await house.queue.finished(view.id)
        assert await house.credentials.find(ANN, pinned().url) is None

    async def test_a_newer_credential_outlives_the_build_of_an_older_one(self, house: House) -> None:
        view = await house.queue.request(ANN, with_login(house))
        newer = house.credentials.give(ANN, pinned().url, Credential(password="another"))
        house.gate.open.set()
        await house.queue.finished(view.id)
        assert await house.credentials.find(ANN, pinned().url) is newer

    async def test_after_a_restart_it_is_asked_for_again(self, house: House) -> None:
        view = await house.queue.request(ANN, with_login(house))
        await until(lambda: house.gate.inside)
        await house.restart()
        ended = await house.queue.finished(view.id)
        assert ended.error is not None
        assert (ended.state, ended.error.code) == ("failed", "credential-needed")
        assert "again" in ended.error.next
        last = (await house.log(view.id))[-1]
        assert (last.phase, last.error) == ("failed", ended.error)
        assert await house.store.unsettled_builds() == []

    async def test_a_build_with_the_administrators_credential_goes_on_after_a_restart(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "hosts.yaml"
        file.write_text(f"- {{host: github.com, password: {SECRET}, people: [ann]}}")
        file.chmod(0o600)
        section = {"source": {"credentials_file": str(file)}}
        settings = from_mapping(section, platform="tljh", state_dir=tmp_path / "state")
        ensure_state(settings)
        house = await House(settings).open()
        login = await house.credentials.find(ANN, pinned().url)
        view = await house.queue.request(ANN, replace(pinned(), login=login))
        await until(lambda: house.gate.inside)
        await house.restart()
        await until(lambda: house.gate.inside)
        assert house.gate.logins == [login]
        house.gate.open.set()
        assert (await house.queue.finished(view.id)).state == "built"
        await house.close()

    async def test_the_store_holds_nothing_of_it(self, house: House) -> None:
        view = await house.queue.request(ANN, with_login(house))
        house.gate.open.set()
        await house.queue.finished(view.id)
        for path in house.settings.state_dir.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), path


class TestWhoMayBuild:
    @pytest.fixture
    async def strict(self, tmp_path: Path) -> AsyncIterator[House]:
        section = {"policy": {"builders": "role"}}
        settings = from_mapping(section, platform="tljh", state_dir=tmp_path / "strict")
        ensure_state(settings)
        opened = await House(settings).open()
        yield opened
        await opened.close()

    async def test_others_start_what_is_there_and_join_what_is_being_built(self, strict: House) -> None:
        builder = Person(name="dora", scopes=("custom:binder:build",))
        with pytest.raises(Forbidden) as caught:
            await strict.request(BOB)
        assert caught.value.code == "not-a-builder"
        assert await strict.queue.list() == []
        view = await strict.request(builder)
        assert (await strict.request(BOB)).id == view.id
        strict.gate.open.set()
        await strict.queue.finished(view.id)
        assert (await strict.request(BOB)).hit
        with pytest.raises(Forbidden):
            await strict.queue.request(BOB, pinned(), rebuild=True)
        assert (await strict.request(ROOT, repository="a/other")).state == "queued"

    async def test_a_private_wish_is_no_way_round(self, strict: House) -> None:
        await strict.request(ROOT)
        with pytest.raises(Forbidden):
            await strict.queue.request(ANN, with_login(strict))
