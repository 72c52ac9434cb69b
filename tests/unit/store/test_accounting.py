"""Promises of the table of servers' time: what is told twice is counted once, and nothing is guessed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tljh_plugin.store import AuditFilter, BuildRow, ServerRun, Store


def at(minute: int) -> str:
    return f"2026-11-21T{9 + minute // 60:02}:{minute % 60:02}:00.000+00:00"


RUN = ServerRun(
    container_id="c1",
    person="ann",
    server="one",
    image_id="sha256:1",
    groups=("physics",),
    profile="small",
    memory_bytes=1024**3,
    cpus=2.0,
    started=at(0),
    seen=at(0),
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "store.sqlite")
    yield store
    await store.close()


async def everything(store: Store) -> list[ServerRun]:
    return await store.server_runs.between(at(-60), at(600))


async def test_a_run_that_is_told_twice_is_one(store: Store) -> None:
    assert await store.server_runs.begin(RUN)
    assert not await store.server_runs.begin(replace(RUN, started=at(1), seen=at(1)))
    await store.server_runs.still(["c1", "unheard-of"], at(5))
    assert await store.server_runs.end("c1", at(7))
    assert not await store.server_runs.end("c1", at(9))
    assert await everything(store) == [replace(RUN, ended=at(7), seen=at(7))]


async def test_an_old_event_does_not_open_what_has_ended(store: Store) -> None:
    await store.server_runs.begin(RUN)
    await store.server_runs.end("c1", at(7))
    assert not await store.server_runs.begin(RUN)
    assert await store.server_runs.open() == []


async def test_a_container_that_is_started_again_goes_on(store: Store) -> None:
    await store.server_runs.begin(RUN)
    await store.server_runs.end("c1", at(7))
    assert await store.server_runs.begin(replace(RUN, started=at(8), seen=at(8)))
    assert [run.seen for run in await store.server_runs.open()] == [at(8)]


async def test_an_end_that_was_not_seen_is_mended_by_the_event_that_tells_it(store: Store) -> None:
    await store.server_runs.begin(RUN)
    await store.server_runs.still(["c1"], at(3))
    await store.server_runs.end("c1", at(3), exact=False)
    assert not (await everything(store))[0].exact
    assert await store.server_runs.end("c1", at(5))
    assert await everything(store) == [replace(RUN, ended=at(5), seen=at(5))]
    assert not await store.server_runs.end("c1", at(9), exact=False)


async def test_no_run_ends_before_it_began_where_the_clock_was_set_back(store: Store) -> None:
    await store.server_runs.begin(RUN)
    await store.server_runs.end("c1", at(-30))
    assert (await everything(store))[0].ended == at(0)


async def test_only_what_ran_in_the_time_is_found(store: Store) -> None:
    for number, (start, end) in enumerate([(0, 10), (20, 30), (40, 50)]):
        run = replace(RUN, container_id=f"c{number}", started=at(start), seen=at(start))
        await store.server_runs.begin(run)
        await store.server_runs.end(run.container_id, at(end))
    found = await store.server_runs.between(at(10), at(40))
    assert [run.started for run in found] == [at(20)]


async def test_last_use_outlives_a_restart_and_counts_the_whole_run(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.sqlite")
    await store.add_use("sha256:1", "ann", "one")
    await store.server_runs.begin(replace(RUN, person="bob", seen="2999-01-01T00:00:00.000+00:00"))
    await store.close()
    store = await Store.open(tmp_path / "store.sqlite")
    use = (await store.uses())["sha256:1"]
    assert (use.launches, use.last_used[:4], use.last_used_by) == (1, "2999", "bob")
    await store.close()


async def test_the_lease_itself_tells_what_was_launched(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.sqlite")
    lease = await store.add_lease("sha256:1", "2999-01-01", "ann/one")
    await store.close()
    store = await Store.open(tmp_path / "store.sqlite")  # the service was restarted while it started
    assert await store.end_lease(lease.id)
    assert not await store.end_lease(lease.id)
    assert await store.leases() == []
    use = (await store.uses())["sha256:1"]
    assert (use.launches, use.last_used_by) == (1, "ann")
    await store.close()


async def test_builds_are_told_with_the_groups_of_who_asked(store: Store) -> None:
    row = BuildRow(
        id="b-1",
        identity="i",
        url="u",
        commit="c" * 40,
        subdir="",
        platform="linux/amd64",
        spec="gh/a/b/main",
        asked_ref="main",
        requested_by="ann",
        created=at(0),
        asked_groups=("physics",),
    )
    await store.enqueue(row, per_person=9)
    future = "2999-01-01T00:00:00.000+00:00"
    assert await store.server_runs.builds_between(at(0), future) == []
    await store.start_build("b-1")
    [build] = await store.server_runs.builds_between(at(0), future)
    assert (build.person, build.groups, build.ended) == ("ann", ("physics",), "")


class TestAuditLog:
    @pytest.fixture(autouse=True)
    async def furnished(self, store: Store) -> None:
        for number in range(5):
            await store.audit("ann", "image.pin", f"littlest-binder/Optics:{number}", "done")
        await store.audit("bob", "imagery.take", "git/https%3A%2F%2Fgit.example.org%2Fmaps/HEAD", "done")
        await store.audit("bob", "project.delete", "bob/100%_x", "done")

    @pytest.mark.parametrize(
        ("wanted", "count"),
        [
            ({}, 7),
            ({"who": "bob"}, 2),
            ({"who": "bo"}, 0),
            ({"what": "image"}, 5),
            ({"what": "image.pin"}, 5),
            ({"what": "image."}, 0),
            ({"thing": "optics:3"}, 1),
            ({"thing": "%_"}, 1),
            ({"thing": "git.example.org/maps"}, 1),
            ({"thing": "' OR 1=1 --"}, 0),
            ({"since": "2999-01-01"}, 0),
            ({"until": "2000-01-01"}, 0),
            ({"who": "ann", "what": "project"}, 0),
        ],
    )
    async def test_it_is_searched(self, store: Store, wanted: dict[str, str], count: int) -> None:
        assert len(await store.audit_log.entries(AuditFilter(**wanted))) == count

    async def test_pages_join_without_a_gap(self, store: Store) -> None:
        seen: list[int] = []
        while page := await store.audit_log.entries(limit=3, before=seen[-1] if seen else 0):
            seen += [entry.number for entry in page]
        assert seen == list(range(7, 0, -1))

    async def test_actions_are_told_once(self, store: Store) -> None:
        assert await store.audit_log.actions() == ["image.pin", "imagery.take", "project.delete"]
