"""`GET accounting`: who used how much, for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import cast, get_args

from ...errors import InvalidRequest
from ...moments import as_stored
from ...source.providers import shown
from ...wire import AccountBy, AccountingView, AccountView
from ..accounting import MOST_DAYS, this_month
from ..handler import ApiHandler
from .audit import moment

FIELDS = ("by", "since", "until")
COLUMNS = tuple(name for name in AccountView.model_fields if name != "version")


class AccountingReport(ApiHandler):
    async def get(self) -> None:
        """`?by=&since=&until=&format=`: administrators: server hours, memory hours, builds and kept bytes by
        `person`, `group` or `day`; without `since` from the beginning of the month; `format=csv`: as a file.
        Answers `AccountingView`.
        """
        self.only_administrators()
        table = self.wants_table()
        by, since, until = period({name: self.get_query_argument(name, "") for name in FIELDS})
        report = await self.context.accounting.view(by, since, until)
        if table:
            self.answer_table(file_name(report), COLUMNS, as_rows(report))
        else:
            self.answer(report)


def as_rows(report: AccountingView) -> list[list[object]]:
    """A report as a table has it."""
    return [[getattr(row, name) for name in COLUMNS] for row in report.rows]


def file_name(report: AccountingView) -> str:
    """What it is saved as, without its ending."""
    return f"accounting-{report.by}-{report.since[:10]}"


def period(given: Mapping[str, str]) -> tuple[AccountBy, str, str]:
    """By what, since when, until when. Nothing given: by person, this month until now. Raises
    `InvalidRequest`."""
    by = given.get("by", "").strip() or "person"
    if by not in get_args(AccountBy):
        raise InvalidRequest(
            f"The query has `by={shown(by, 40)}`.", f"Give one of {', '.join(get_args(AccountBy))}."
        )
    now = datetime.now(timezone.utc)
    since = moment("since", given.get("since", "").strip(), to_the_end=False) or this_month(now)
    until = moment("until", given.get("until", "").strip(), to_the_end=True) or as_stored(now)
    until = min(until, as_stored(now))  # what is to come was used by nobody
    if since > until:
        raise InvalidRequest(f"`since` ({since}) is after `until` ({until}).", "Give an earlier day.")
    if datetime.fromisoformat(until) - datetime.fromisoformat(since) > timedelta(days=MOST_DAYS):
        raise InvalidRequest(
            f"From {since[:10]} to {until[:10]} are more than {MOST_DAYS} days.", "Give a later `since`."
        )
    return cast(AccountBy, by), since, until
