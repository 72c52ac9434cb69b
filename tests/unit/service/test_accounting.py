"""Promises of the reports: sums are those of the runs, cut at the borders, and lower bounds are called so."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from house import House

from tljh_plugin.errors import Forbidden, InvalidRequest
from tljh_plugin.moments import as_stored
from tljh_plugin.service.accounting import add_up
from tljh_plugin.service.api.accounting import period
from tljh_plugin.service.api.audit import wanted
from tljh_plugin.store import AuditEntry, BuildTime, ServerRun, SizeRow
from tljh_plugin.tables import as_csv
from tljh_plugin.wire import AccountBy, AccountView

GIB = 1024**3
ZERO = datetime(2026, 11, 20, tzinfo=timezone.utc)


def at(hours: float) -> datetime:
    return ZERO + timedelta(hours=hours)


def run(person: str, start: float, end: float | None, *groups: str, **more: Any) -> ServerRun:
    started = as_stored(at(start))
    given: dict[str, Any] = {
        "container_id": f"{person}-{start}",
        "person": person,
        "server": "",
        "image_id": "sha256:1",
        "groups": groups,
        "profile": "",
        "memory_bytes": 2 * GIB,
        "cpus": 0.5,
        "started": started,
        "seen": as_stored(at(end)) if end is not None else started,
        "ended": as_stored(at(end)) if end is not None else "",
    }
    return ServerRun(**{**given, **more})


def report(
    by: AccountBy,
    runs: list[ServerRun],
    since: float = 0,
    until: float = 48,
    builds: tuple[BuildTime, ...] = (),
    sizes: tuple[SizeRow, ...] = (),
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, AccountView]:
    rows = add_up(by, runs, builds, sizes, groups or {}, at(since), at(until))
    return {row.name: row for row in rows}


class TestSums:
    def test_hours_are_those_of_the_limits(self) -> None:
        found = report("person", [run("ann", 1, 4), run("ann", 5, 6), run("bob", 2, 2.5)])
        assert list(found) == ["ann", "bob"]
        ann = found["ann"]
        assert (ann.servers, ann.server_hours, ann.memory_gib_hours, ann.cpu_hours) == (2, 4, 8, 2)
        assert (found["bob"].servers, found["bob"].server_hours) == (1, 0.5)

    def test_only_what_lies_in_the_time_counts_and_starts_where_they_were(self) -> None:
        found = report("person", [run("ann", -5, 3), run("ann", 40, 60)], since=0, until=48)
        assert (found["ann"].servers, found["ann"].server_hours) == (1, 3 + 8)
        assert report("person", [run("ann", -5, -1)]) == {}

    def test_what_goes_on_counts_until_it_was_seen_last(self) -> None:
        going = run("ann", 1, None, seen=as_stored(at(2)))
        assert report("person", [going])["ann"].server_hours == 1

    def test_an_end_that_nobody_saw_makes_the_sum_a_lower_bound(self) -> None:
        found = report("person", [run("ann", 1, 2), run("bob", 1, 2, exact=False)])
        assert [found[name].whole for name in ("ann", "bob")] == [True, False]

    def test_somebody_in_two_groups_counts_in_both_and_in_none_under_no_name(self) -> None:
        runs = [run("ann", 1, 2, "physics", "staff"), run("bob", 1, 3, "physics"), run("eve", 1, 2)]
        found = report("group", runs)
        assert {name: (row.people, row.server_hours) for name, row in found.items()} == {
            "": (1, 1),
            "physics": (2, 3),
            "staff": (1, 1),
        }

    def test_groups_are_those_of_then(self) -> None:
        found = report("group", [run("ann", 1, 2, "old"), run("ann", 3, 5, "new")])
        assert (found["old"].server_hours, found["new"].server_hours) == (1, 2)

    def test_days_are_cut_at_midnight(self) -> None:
        found = report("day", [run("ann", 22, 49), run("bob", 24, 24.5)], until=72)
        assert {name: (row.servers, row.server_hours) for name, row in found.items()} == {
            "2026-11-20": (1, 2),
            "2026-11-21": (1, 24.5),
            "2026-11-22": (0, 1),
        }

    def test_builds_and_kept_bytes_come_with_the_rest(self) -> None:
        builds = (
            BuildTime("ann", ("physics",), as_stored(at(1)), as_stored(at(1.5))),
            BuildTime("ann", (), as_stored(at(47)), ""),
        )
        sizes = tuple(SizeRow(f"/{n}", "ann", 1000, 1, n == 0, 0.1, "") for n in range(2))
        found = report("person", [], builds=builds, sizes=sizes)["ann"]
        assert (found.builds, found.build_minutes, found.kept_bytes, found.whole) == (2, 90, 2000, False)
        by_group = report("group", [], builds=builds, sizes=sizes, groups={"ann": ("staff",)})
        assert {name: (row.build_minutes, row.kept_bytes) for name, row in by_group.items()} == {
            "": (60, None),
            "physics": (30, None),
            "staff": (0, 2000),
        }
        assert report("day", [], sizes=sizes) == {}

    @pytest.mark.rounds(few=5, soak=300)
    def test_however_the_time_is_cut_the_whole_is_the_sum_of_the_parts(self, round_number: int) -> None:
        chance = random.Random(round_number)
        runs = []
        for number in range(30):
            start = chance.uniform(-50, 100)
            end = start + chance.uniform(0, 60)
            runs.append(run(f"p{number % 4}", start, end, container_id=str(number)))
        cuts = sorted([0, 96, *(chance.uniform(0, 96) for _ in range(4))])
        whole = sum(row.server_hours for row in report("person", runs, 0, 96).values())
        parts = [
            row.server_hours
            for since, until in pairwise(cuts)
            for row in report("person", runs, since, until).values()
        ]
        days = sum(row.server_hours for row in report("day", runs, 0, 96).values())
        assert sum(parts) == pytest.approx(whole, abs=0.02)
        assert days == pytest.approx(whole, abs=0.01)


class TestQueries:
    def test_nothing_given_means_this_month_by_person(self) -> None:
        by, since, until = period({})
        assert by == "person"
        assert since.endswith("-01T00:00:00.000+00:00")
        assert since[:7] == until[:7]

    def test_a_last_day_is_included_and_the_future_is_not(self) -> None:
        assert period({"since": "2026-01-01", "until": "2026-01-31"})[2] == "2026-02-01T00:00:00.000+00:00"
        assert period({"until": "2999-01-01"})[2] < "2999"

    @pytest.mark.parametrize(
        "bad",
        [
            {"by": "planet"},
            {"since": "yesterday"},
            {"since": "2026-02-01", "until": "2026-01-01"},
            {"since": "1970-01-01"},
        ],
    )
    def test_what_is_wrong_is_said(self, bad: dict[str, str]) -> None:
        with pytest.raises(InvalidRequest) as caught:
            period(bad)
        assert caught.value.next_step

    def test_the_logs_filter_is_read_the_same_way(self) -> None:
        found = wanted({"who": " ann ", "until": "2026-01-31"})
        assert (found.who, found.until) == ("ann", "2026-02-01T00:00:00.000+00:00")
        with pytest.raises(InvalidRequest, match="since=soon"):
            wanted({"since": "soon"})
        with pytest.raises(InvalidRequest, match="301 characters"):
            wanted({"thing": "x" * 301})


class TestCsv:
    def test_it_is_read_back_as_it_was_written(self) -> None:
        text = as_csv(["a", "b"], [["x,y", 'q"r'], ["two\nlines", None]])
        assert list(csv.reader(io.StringIO(text))) == [["a", "b"], ["x,y", 'q"r'], ["two\nlines", ""]]

    @pytest.mark.parametrize(
        "evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "  =1", '"=1']
    )
    def test_nobodys_name_becomes_a_formula(self, evil: str) -> None:
        assert list(csv.reader(io.StringIO(as_csv(["a"], [[evil]]), newline="")))[1] == [f"'{evil}"]

    @pytest.mark.parametrize(
        ("evil", "kept"),
        [
            ("x;=1", "x;'=1"),
            ("x; =1;＠2", "x;' =1;'＠2"),
            ('x;"=1"', 'x;\'"=1"'),
            ("x\n=1", "x\n'=1"),
            ("a;b = c-d", "a;b = c-d"),
        ],
    )
    def test_nor_does_what_another_countrys_spreadsheet_takes_for_the_next_cell(
        self, evil: str, kept: str
    ) -> None:
        assert list(csv.reader(io.StringIO(as_csv(["a"], [[evil]]), newline="")))[1] == [kept]

    def test_numbers_stay_numbers(self) -> None:
        assert as_csv(["a"], [[-1.5]]) == "a\r\n-1.5\r\n"


class TestApi:
    async def test_the_log_is_asked_with_its_filter_and_page_by_page(self, house: House) -> None:
        async with house.client("root") as client:
            assert [each.number for each in await client.audit()] == [2, 1]
            assert [each.number for each in await client.audit(before=2)] == [1]
            assert [each.what for each in await client.audit(who="ada", until="2026-11-21")] == [
                "project.delete"
            ]
        assert house.audit.asked[-1].until == "2026-11-22T00:00:00.000+00:00"

    async def test_the_whole_log_is_exported(self, house: House) -> None:
        house.audit.known = [
            AuditEntry(number, "2026-11-21", "=cmd()", "image.pin", "x", "done")
            for number in range(2500, 0, -1)
        ]
        async with house.client("root") as client:
            rows = list(csv.reader(io.StringIO(await client.as_table("audit", {}))))
        assert len(rows) == 2501
        assert rows[1] == ["2500", "2026-11-21", "'=cmd()", "image.pin", "x", "done", ""]

    async def test_reports_come_as_json_and_as_a_file(self, house: House) -> None:
        async with house.client("root") as client:
            found = await client.accounting("group", "2026-11-01", "2026-11-10")
            assert [row.name for row in found.rows] == ["ada"]
            assert house.accounting.asked == [
                ("group", "2026-11-01T00:00:00.000+00:00", "2026-11-11T00:00:00.000+00:00")
            ]
        async with house.browser("root") as browser:
            answer = await browser.get("api/v1/accounting?format=csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"].startswith("attachment; filename=")
        assert answer.text.splitlines()[1] == "ada,1,3,7.5,15.0,7.5,2,4.5,123456789,True"

    @pytest.mark.parametrize(
        "bad", ["audit?format=xml", "audit?limit=-1", "audit?before=x", "audit?since=x", "accounting?by=x"]
    )
    async def test_what_is_asked_wrongly_is_said(self, house: House, bad: str) -> None:
        async with house.browser("root") as browser:
            answer = await browser.get(f"api/v1/{bad}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")

    async def test_they_are_for_administrators(self, house: House) -> None:
        async with house.client("ada") as client:
            with pytest.raises(Forbidden):
                await client.audit()
            with pytest.raises(Forbidden):
                await client.accounting()
