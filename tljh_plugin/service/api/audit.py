"""`GET audit`: who did what to which thing, for administrators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...errors import InvalidRequest
from ...moments import read_moment
from ...source.providers import shown
from ...store import AuditEntry, AuditFilter, AuditLog
from ...wire import AuditView
from ..handler import ApiHandler

FIELDS = ("who", "what", "thing", "since", "until", "request")
COLUMNS = ("number", "time", "who", "what", "thing", "result", "request")

_PER_PAGE, _MOST_PER_PAGE = 200, 1000
_LONGEST = 300


class AuditEntries(ApiHandler):
    async def get(self) -> None:
        """`?who=&what=&thing=&since=&until=&request=&limit=&before=&format=`: administrators: who did what,
        newest first, at most `limit` (200; 1000 at most). `what` is an action or its kind (`image`), `thing`
        a part of a name, `request` the id of a [request](../how-to/follow-a-request.md), `since` and `until`
        days (UTC, the last one included) or moments; send the last `number` as `before` for the next page.
        `format=csv`: all that fits, as a file. Answers a list of `AuditView`.
        """
        self.only_administrators()
        table = self.wants_table()
        asked = wanted({name: self.get_query_argument(name, "") for name in FIELDS})
        if table:
            self.answer_table("audit", COLUMNS, as_rows(await everything(self.context.audit, asked)))
            return
        limit = whole("limit", self.get_query_argument("limit", str(_PER_PAGE)), _MOST_PER_PAGE)
        before = whole("before", self.get_query_argument("before", "0"), 10**18)
        found = await self.context.audit.entries(asked, limit=limit, before=before)
        self.answer([view(each) for each in found])


async def everything(log: AuditLog, asked: AuditFilter) -> list[AuditEntry]:
    """All that was asked for, piece by piece: others want the store meanwhile."""
    found: list[AuditEntry] = []
    while True:
        page = await log.entries(asked, limit=_MOST_PER_PAGE, before=found[-1].number if found else 0)
        found += page
        if len(page) < _MOST_PER_PAGE:
            return found


def wanted(given: Mapping[str, str]) -> AuditFilter:
    """What the fields of a query mean; a date in `until` means to its end. Raises `InvalidRequest`."""
    values = {name: given.get(name, "").strip() for name in FIELDS}
    for name, value in values.items():
        if len(value) > _LONGEST:
            raise InvalidRequest(f"`{name}` has {len(value)} characters.", f"Give {_LONGEST} at most.")
    for name in ("since", "until"):
        values[name] = moment(name, values[name], to_the_end=name == "until")
    return AuditFilter(**values)


def moment(name: str, text: str, *, to_the_end: bool) -> str:
    """A date or a moment of a query as the store keeps it; empty stays empty. Raises `InvalidRequest`."""
    if not text:
        return ""
    try:
        return read_moment(text, to_the_end=to_the_end)
    except ValueError:
        raise InvalidRequest(
            f"The query has `{name}={shown(text, 40)}`.", "Give a date such as 2026-11-21."
        ) from None


def whole(name: str, text: str, most: int) -> int:
    """A number of a query, at most `most`. Raises `InvalidRequest`."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidRequest(f"The query has `{name}={shown(text, 40)}`.", "Give a whole number.")
    return min(int(text), most)


def as_rows(entries: Iterable[AuditEntry]) -> list[list[object]]:
    """Entries as a table has them."""
    return [[getattr(each, name) for name in COLUMNS] for each in entries]


def view(entry: AuditEntry) -> AuditView:
    """An entry as it is sent."""
    return AuditView(**{name: getattr(entry, name) for name in COLUMNS})
