"""The pages of the audit log and of accounting: filters, paging, export, pictures, text as text."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest
from house import NOW, PREFIX, House

from tljh_plugin.errors import Forbidden, InvalidRequest
from tljh_plugin.service.pages.accounting import MEASURES, bars
from tljh_plugin.store import AuditEntry
from tljh_plugin.wire import AccountBy, AccountingView, AccountView

EVIL = '<img src=x onerror="alert(1)">'


def account(name: str, **more: object) -> AccountView:
    return AccountView(name=name, **more)  # type: ignore[arg-type]


def report(by: AccountBy, *rows: AccountView) -> AccountingView:
    return AccountingView(since=NOW, until=NOW, by=by, rows=rows)


def links(text: str) -> list[str]:
    """Relative to our pages."""
    return [unescape(each).removeprefix(PREFIX) for each in re.findall(r'href="([^"]+)"', text)]


# -- the audit log ----------------------------------------------------------------------------------------


async def test_entries_are_shown_and_filtered_by_a_form(house: House) -> None:
    async with house.browser("root") as browser:
        text = (await browser.visit("audit")).text
        assert "image.pin" in text
        assert "project.delete" in text
        found = await browser.visit(
            "audit?who=ada&what=project&thing=owner&since=2026-11-01&until=2026-11-21"
        )
    asked = house.audit.asked[-1]
    assert (asked.who, asked.what, asked.thing) == ("ada", "project", "owner")
    assert asked.since.startswith("2026-11-01T00:00")
    assert asked.until.startswith("2026-11-22T00:00")  # that day is meant to its end
    assert 'name="who" value="ada"' in found.text
    assert 'name="since" value="2026-11-01"' in found.text
    assert "<td>littlest-binder/owner-repo:1" not in found.text
    assert "<option selected>project</option>" in found.text


async def test_a_repository_is_shown_as_people_write_it(house: House) -> None:
    thing = "git/https%3A%2F%2Fgit.example.org%2Flab%2Fdata/HEAD"
    house.audit.known = [AuditEntry(1, NOW, "ada", "build.request", thing, "queued")]
    async with house.browser("root") as browser:
        text = (await browser.visit("audit")).text
    assert "git/https://git.example.org/lab/data/HEAD" in text


async def test_a_long_log_has_pages_that_keep_the_filter(house: House) -> None:
    house.audit.known = [
        AuditEntry(n, NOW, "ada", "image.pin", f"thing {n}", "done") for n in range(250, 0, -1)
    ]
    seen: list[str] = []
    address = "audit?who=ada"
    async with house.browser("root") as browser:
        while address:
            text = (await browser.visit(address)).text
            seen += re.findall(r">(thing \d+)<", text)
            older = [each for each in links(text) if "before=" in each]
            assert all("who=ada" in each for each in older)
            address = older[0] if older else ""
    assert seen == [each.thing for each in house.audit.known]


async def test_what_was_found_can_be_exported(house: House) -> None:
    async with house.browser("root") as browser:
        text = (await browser.visit("audit?who=ada")).text
        [address] = [each for each in links(text) if "format=csv" in each]
        exported = await browser.visit(address)
        assert exported.status_code == 200
        rows = list(csv.DictReader(io.StringIO(exported.text.lstrip("\ufeff"))))
        assert [(each["who"], each["what"]) for each in rows] == [("ada", "project.delete")]
        [address] = [each for each in links(text) if "format=json" in each]
        assert [each["number"] for each in (await browser.visit(address)).json()] == [1]


async def test_a_date_that_is_none_is_refused_with_its_value(house: House) -> None:
    async with house.browser("root") as browser:
        for query in ("since=yesterday", "before=x", "before=-1", f"before={'9' * 30}"):
            answer = await browser.visit(f"audit?{query}")
            assert answer.status_code == InvalidRequest.http_status, query


async def test_what_people_called_things_is_only_text(house: House) -> None:
    house.audit.known = [AuditEntry(1, NOW, EVIL, EVIL, EVIL, EVIL)]
    house.accounting.rows = (account(EVIL, server_hours=1),)
    async with house.browser("root") as browser:
        for path in ("audit", f"audit?who={EVIL}&thing={EVIL}&what={EVIL}", "accounting"):
            assert "<img src=x" not in (await browser.visit(path)).text, path


# -- accounting -------------------------------------------------------------------------------------------


def test_the_largest_is_the_longest_bar_and_the_first() -> None:
    found = bars(
        report("person", account("a", cpu_hours=1), account("b", cpu_hours=4)), MEASURES["cpu_hours"]
    )
    assert found == [("b", 1000.0, "4"), ("a", 250.0, "1")]


def test_days_stay_in_their_order() -> None:
    rows = [account(f"2026-11-{day:02}", builds=30 - day) for day in range(1, 30)]
    found = bars(report("day", *rows), MEASURES["builds"])
    assert [name for name, *_ in found] == [row.name for row in rows[-20:]]


@pytest.mark.parametrize(
    ("hours", "said"),
    [(0, "0"), (0.001, "< 0.01"), (0.04, "0.04"), (0.26, "0.3"), (3, "3"), (112.04, "112.0")],
)
def test_what_is_little_is_not_said_to_be_nothing(hours: float, said: str) -> None:
    assert MEASURES["server_hours"].shown(hours) == said


def test_nothing_used_is_no_picture() -> None:
    assert bars(report("person", account("a")), MEASURES["server_hours"]) == []


async def test_figures_stand_in_the_table_and_those_not_known_are_a_dash(house: House) -> None:
    house.accounting.rows = (
        account("ada", server_hours=7.5, kept_bytes=3 * 1024**3, whole=False),
        account("bob", server_hours=2.0),
    )
    async with house.browser("root") as browser:
        text = (await browser.visit("accounting")).text
    assert "ada (at least)" in text
    assert "3 GiB" in text
    assert "–" in text
    assert ">9.5<" in text  # together
    assert house.accounting.asked[-1][0] == "person"


async def test_by_group_there_is_no_sum_since_people_count_twice(house: House) -> None:
    house.accounting.rows = (account("physics", servers=2), account("", servers=1))
    async with house.browser("root") as browser:
        text = (await browser.visit("accounting?by=group&measure=servers")).text
    assert "Together" not in text
    assert "(in no group)" in text
    assert "Who is in two groups counts in both." in text


async def test_the_report_can_be_exported_for_the_same_time(house: House) -> None:
    async with house.browser("root") as browser:
        text = (await browser.visit("accounting?by=group&since=2026-11-01&until=2026-11-10")).text
        [address] = [each for each in links(text) if "format=csv" in each]
        shown = house.accounting.asked[-1]
        assert (await browser.visit(address)).status_code == 200
    assert house.accounting.asked[-1] == shown


@pytest.mark.parametrize("query", ["by=planet", "measure=beauty", "since=2026-11-20&until=2026-11-01"])
async def test_what_cannot_be_reported_is_refused(house: House, query: str) -> None:
    async with house.browser("root") as browser:
        assert (await browser.visit(f"accounting?{query}")).status_code == InvalidRequest.http_status


async def test_both_are_for_administrators(house: House) -> None:
    async with house.browser("ada") as browser:
        for path in ("audit", "accounting"):
            assert (await browser.visit(path)).status_code == Forbidden.http_status
