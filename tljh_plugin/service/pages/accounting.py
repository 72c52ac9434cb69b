"""Accounting: who used how much, as a table and a picture, with a link to export it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from ...amounts import shown_bytes
from ...errors import InvalidRequest
from ...wire import AccountBy, AccountingView, AccountView
from ..api.accounting import COLUMNS, FIELDS, as_rows, file_name, period
from ..pictures import lengths
from ..texts import _
from .page import Page

BY: dict[AccountBy, str] = {"person": _("person"), "group": _("group"), "day": _("day")}
_MOST_BARS = 20


@dataclass(frozen=True)
class Measure:
    """A column of the table: what it is called, its number, and that number for people."""

    title: str
    value: Callable[[AccountView], float | None]
    shown: Callable[[float], str]


@dataclass(frozen=True)
class ShownAccount:
    """A row of the table; its cells are in the order of the measures."""

    name: str
    cells: list[str]


def _number(value: float) -> str:
    """For people: what is little is not said to be nothing."""
    if 0 < value < 0.1:
        return f"{value:.2f}" if value >= 0.005 else _("< 0.01")
    return f"{value:.1f}" if value % 1 else f"{value:.0f}"


MEASURES: dict[str, Measure] = {
    "server_hours": Measure(_("Server hours"), lambda row: row.server_hours, _number),
    "memory_gib_hours": Measure(_("Memory, GiB hours"), lambda row: row.memory_gib_hours, _number),
    "cpu_hours": Measure(_("Processor hours"), lambda row: row.cpu_hours, _number),
    "servers": Measure(_("Servers started"), lambda row: row.servers, _number),
    "builds": Measure(_("Builds"), lambda row: row.builds, _number),
    "build_minutes": Measure(_("Build minutes"), lambda row: row.build_minutes, _number),
    "kept_bytes": Measure(
        _("Kept files, now"), lambda row: row.kept_bytes, lambda value: shown_bytes(round(value))
    ),
}


class AccountingPage(Page):
    tab = "accounting"

    async def get(self) -> None:
        self.only_administrators()
        given = {name: self.get_query_argument(name, "").strip() for name in FIELDS}
        chosen = self.get_query_argument("measure", "") or "server_hours"
        if chosen not in MEASURES:
            raise InvalidRequest(f"The query has `measure={chosen:.40}`.", "Choose one on the page.")
        by, since, until = period(given)
        report = await self.context.accounting.view(by, since, until)
        if self.get_query_argument("format", "") and self.wants_table():
            # It is the page that gives it: the API takes no link of a browser.
            self.answer_table(file_name(report), COLUMNS, as_rows(report))
            return
        measures = {key: each for key, each in MEASURES.items() if by != "day" or key != "kept_bytes"}
        export = urlencode({name: value for name, value in given.items() if value})
        self.show(
            "accounting.html",
            by=by,
            kinds=BY,
            given=given,
            report=report,
            chosen=chosen,
            measures={key: each.title for key, each in measures.items()},
            rows=[shown_account(row, list(measures.values())) for row in report.rows],
            total=_total(report, list(measures.values())) if by != "group" else None,
            bars=bars(report, MEASURES[chosen]),
            csv=f"{self.prefix}accounting?{export}{'&' if export else ''}format=csv",
        )


def shown_account(row: AccountView, measures: Sequence[Measure]) -> ShownAccount:
    """A row for people; what is not known is a dash."""
    name = row.name or _("(in no group)")
    cells = []
    for each in measures:
        value = each.value(row)
        cells.append("–" if value is None else each.shown(value))
    return ShownAccount(name if row.whole else _("{name} (at least)").format(name=name), cells)


def bars(report: AccountingView, measure: Measure) -> list[tuple[str, float, str]]:
    """Names with the lengths of their bars and their numbers: the largest first, days in their order."""
    found = [(row.name or _("(in no group)"), measure.value(row) or 0.0) for row in report.rows]
    if report.by == "day":
        found = found[-_MOST_BARS:]
    else:
        found = sorted(found, key=lambda each: (-each[1], each[0]))[:_MOST_BARS]
    widths = lengths([value for _name, value in found])
    if not any(widths):
        return []
    return [(name, width, measure.shown(value)) for (name, value), width in zip(found, widths, strict=True)]


def _total(report: AccountingView, measures: Sequence[Measure]) -> list[str]:
    """All rows together; somebody in two groups would count twice, so there is none by group."""
    return [each.shown(sum(each.value(row) or 0.0 for row in report.rows)) for each in measures]
