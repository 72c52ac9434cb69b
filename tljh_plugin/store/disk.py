"""SQL of the table `disk_history`: samples go in, older ones are thinned out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from ..wire import DiskSample

# Samples older than so many days: one for each piece of time that begins with so many letters of its ISO
# 8601 text (`2026-11-21T09` an hour, `2026-11-21` a day); after the last, none.
_THINNED = ((2, 13), (30, 10))
_KEPT_DAYS = 730


def add_samples(db: Database, samples: Iterable[DiskSample], now: datetime) -> None:
    """Add samples and drop what is too fine for its age."""
    db.conn.executemany(
        "INSERT OR REPLACE INTO disk_history (time, path, total, used, parts) VALUES (?, ?, ?, ?, ?)",
        [(each.time, each.path, each.total, each.used, json.dumps(each.parts)) for each in samples],
    )
    for days, letters in _THINNED:
        db.conn.execute(
            "DELETE FROM disk_history WHERE time < ? AND (path, time) NOT IN"
            " (SELECT path, MIN(time) FROM disk_history GROUP BY path, substr(time, 1, ?))",
            [_before(now, days), letters],
        )
    db.conn.execute("DELETE FROM disk_history WHERE time < ?", [_before(now, _KEPT_DAYS)])


def read_samples(db: Database, path: str, since: str) -> list[DiskSample]:
    """Of one filesystem, or of all; oldest first."""
    found = db["disk_history"].rows_where(
        "(? = '' OR path = ?) AND time >= ?", [path, path, since], order_by="time, path"
    )
    return [DiskSample(**{**row, "parts": json.loads(row["parts"])}) for row in found]


def keep_layer_folders(db: Database, measured: dict[str, int], there: set[str]) -> None:
    """Add what was measured, and forget the folders that are gone."""
    db.conn.executemany("INSERT OR REPLACE INTO layer_folders VALUES (?, ?)", list(measured.items()))
    gone: list[Any] = [[row["folder"]] for row in db["layer_folders"].rows if row["folder"] not in there]
    db.conn.executemany("DELETE FROM layer_folders WHERE folder = ?", gone)


def _before(now: datetime, days: int) -> str:
    return (now - timedelta(days=days)).isoformat(timespec="milliseconds")
