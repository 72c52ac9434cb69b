"""SQL of the table `server_runs`: which server of whom ran from when to when, and what it held meanwhile.

A container is one run, so whatever is told twice of it, by an event and by a look, is written once. A run
without an end goes on; `seen` is the last moment at which it was known to. A run whose end nobody saw ends
when it was seen last (`exact` is false): it is never counted longer than it was seen.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlite_utils import Database

from .connection import Connection
from .rows import BuildTime, ImageUse, ServerRun


class ServerRuns:
    """The table, asynchronously. Every method raises `StoreError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def begin(self, run: ServerRun) -> bool:
        """See `begin`."""
        return await self._connection.write(lambda db: begin(db, run))

    async def end(self, container_id: str, moment: str, *, exact: bool = True) -> bool:
        """See `end`."""
        return await self._connection.write(lambda db: end(db, container_id, moment, exact=exact))

    async def still(self, container_ids: Collection[str], moment: str) -> None:
        """See `still`."""
        await self._connection.write(lambda db: still(db, container_ids, moment))

    async def open(self) -> list[ServerRun]:
        """See `open_runs`."""
        return await self._connection.read(open_runs)

    async def between(self, since: str, until: str) -> list[ServerRun]:
        """See `runs_between`."""
        return await self._connection.read(lambda db: runs_between(db, since, until))

    async def builds_between(self, since: str, until: str) -> list[BuildTime]:
        """See `builds_between`."""
        return await self._connection.read(lambda db: builds_between(db, since, until))

    async def last_groups(self) -> dict[str, tuple[str, ...]]:
        """See `last_groups`."""
        return await self._connection.read(last_groups)


def begin(db: Database, run: ServerRun) -> bool:
    """A container runs, as was seen at `run.seen`; whether that is new. One that had ended goes on."""
    known = list(db["server_runs"].rows_where("container_id = ?", [run.container_id]))
    if not known:
        values = _columns(run)
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        sql = f"INSERT INTO server_runs ({names}) VALUES ({marks})"  # noqa: S608 - the names are ours
        db.conn.execute(sql, list(values.values()))
        return True
    if known[0]["ended"] and run.seen > known[0]["ended"]:
        db.conn.execute(
            "UPDATE server_runs SET ended = '', exact = 1, seen = ? WHERE container_id = ?",
            [run.seen, run.container_id],
        )
        return True
    return False


def end(db: Database, container_id: str, moment: str, *, exact: bool) -> bool:
    """It ended at `moment`, or with `exact` false some time after it; false if that was known already."""
    return bool(
        db.conn.execute(
            "UPDATE server_runs SET ended = max(started, ?), seen = max(started, ?), exact = ?"
            " WHERE container_id = ? AND (ended = '' OR (exact = 0 AND ?))",
            [moment, moment, int(exact), container_id, int(exact)],
        ).rowcount
    )


def still(db: Database, container_ids: Collection[str], moment: str) -> None:
    """These go on at `moment`."""
    db.conn.executemany(
        "UPDATE server_runs SET seen = max(seen, ?) WHERE container_id = ? AND ended = ''",
        [(moment, each) for each in container_ids],
    )


def open_runs(db: Database) -> list[ServerRun]:
    """Those that have not ended, as far as is known."""
    return [_run(row) for row in db["server_runs"].rows_where("ended = ''", order_by="started")]


def runs_between(db: Database, since: str, until: str) -> list[ServerRun]:
    """Those that ran at some moment between the two, oldest first."""
    return [
        _run(row)
        for row in db["server_runs"].rows_where(
            "started < ? AND (ended = '' OR ended > ?)", [until, since], order_by="started"
        )
    ]


def builds_between(db: Database, since: str, until: str) -> list[BuildTime]:
    """Builds that ran at some moment between the two; of one that was interrupted only the last attempt."""
    found = db.execute(
        "SELECT requested_by, asked_groups, started, finished FROM builds"
        " WHERE started != '' AND state != 'queued' AND started < ? AND (finished = '' OR finished > ?)",
        [until, since],
    )
    return [
        BuildTime(person, tuple(json.loads(groups)), started, ended)
        for person, groups, started, ended in found
    ]


def build_seconds(db: Database) -> dict[str, float]:
    """What the builds took that made our images, in seconds by the builds' ids."""
    found = db.execute(
        "SELECT id, (julianday(finished) - julianday(started)) * 86400.0 FROM builds"
        " WHERE started != '' AND finished != '' AND id IN (SELECT build_id FROM images)"
    )
    return {build: max(0.0, seconds) for build, seconds in found if seconds is not None}


def last_groups(db: Database) -> dict[str, tuple[str, ...]]:
    """In which groups each person was when a server of theirs was started last."""
    # With MAX, SQLite takes the other columns from the row that has it (https://sqlite.org/lang_select.html).
    found = db.execute("SELECT person, groups, MAX(started) FROM server_runs GROUP BY person")
    return {person: tuple(json.loads(groups)) for person, groups, _ in found}


def uses(db: Database) -> dict[str, ImageUse]:
    """By image id: launches that succeeded, and when a server last ran on it, also one that failed to."""
    launched = db.execute("SELECT image_id, COUNT(*), MAX(time), person FROM uses GROUP BY image_id")
    found = {image: ImageUse(count, last, person) for image, count, last, person in launched}
    ran = db.execute("SELECT image_id, MAX(seen), person FROM server_runs GROUP BY image_id")
    for image, last, person in ran:
        before = found.get(image, ImageUse(0, ""))
        if last > before.last_used:
            found[image] = ImageUse(before.launches, last, person)
    return found


def _columns(run: ServerRun) -> dict[str, Any]:
    return {
        "container_id": run.container_id,
        "person": run.person,
        "server": run.server,
        "image_id": run.image_id,
        "groups": json.dumps(run.groups, ensure_ascii=True),
        "profile": run.profile,
        "memory_bytes": run.memory_bytes,
        "cpus": run.cpus,
        "started": run.started,
        "ended": run.ended,
        "seen": run.seen,
        "exact": int(run.exact),
    }


def _run(row: dict[str, Any]) -> ServerRun:
    return ServerRun(**{**row, "groups": tuple(json.loads(row["groups"])), "exact": bool(row["exact"])})
