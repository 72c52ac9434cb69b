"""SQL of the table `audit`: who did what to which thing, when, with what result. It is only ever added to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sqlite_utils import Database

from .. import request_ids
from .connection import Connection
from .rows import AuditEntry, utc_now


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are wanted; empty: all.

    `who` is a person's name, `what` an action or its beginning (`image` finds `image.pin`), `thing` a part of
    the thing's name in any case of ASCII letters, `request` the id of a request.
    `since` is included, `until` is not; both as the store keeps moments.
    """

    who: str = ""
    what: str = ""
    thing: str = ""
    since: str = ""
    until: str = ""
    request: str = ""


EVERYTHING = AuditFilter()


class AuditLog:
    """The table, asynchronously. Every method raises `StoreError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def note(self, who: str, what: str, thing: str, result: str) -> None:
        """Add that `who` did `what` (`build.request`, `image.pin`, …) to `thing`."""
        await self._connection.write(lambda db: note(db, who, what, thing, result))

    async def entries(
        self, wanted: AuditFilter = EVERYTHING, *, limit: int = 200, before: int = 0
    ) -> list[AuditEntry]:
        """Newest first; `before` is the number of an entry, for the next page (0: from the newest)."""
        return await self._connection.read(lambda db: entries(db, wanted, limit, before))

    async def actions(self) -> list[str]:
        """All that was ever done, for a list to choose from."""
        return await self._connection.read(actions)


def note(db: Database, who: str, what: str, thing: str, result: str) -> None:
    """Add an entry, of the request that this is part of."""
    db.conn.execute(
        "INSERT INTO audit (time, who, what, thing, result, request) VALUES (?, ?, ?, ?, ?, ?)",
        [utc_now(), who, what, thing, result, request_ids.current()],
    )


def entries(db: Database, wanted: AuditFilter, limit: int, before: int) -> list[AuditEntry]:
    """Newest first; `before` is the number of an entry, for the next page (0: from the newest)."""
    where, values = _where(wanted)
    if before:
        where.append("number < ?")
        values.append(before)
    return [
        AuditEntry(**row)
        for row in db["audit"].rows_where(
            " AND ".join(where) or "1", values, order_by="number DESC", limit=limit
        )
    ]


def actions(db: Database) -> list[str]:
    """All that was ever done, for a list to choose from."""
    return [what for (what,) in db.execute("SELECT DISTINCT what FROM audit ORDER BY what")]


def _where(wanted: AuditFilter) -> tuple[list[str], list[Any]]:
    where, values = list[str](), list[Any]()
    if wanted.who:
        where.append("who = ?")
        values.append(wanted.who)
    if wanted.what:
        where.append("(what = ? OR substr(what, 1, ?) = ?)")
        values += [wanted.what, len(wanted.what) + 1, f"{wanted.what}."]
    if wanted.thing:
        # Repositories stand there as in links: what a person sees as a slash is escaped.
        where.append("(instr(lower(thing), lower(?)) > 0 OR instr(lower(thing), lower(?)) > 0)")
        values += [wanted.thing, quote(wanted.thing, safe="")]
    if wanted.request:
        where.append("request = ?")
        values.append(wanted.request)
    if wanted.since:
        where.append("time >= ?")
        values.append(wanted.since)
    if wanted.until:
        where.append("time < ?")
        values.append(wanted.until)
    return where, values
