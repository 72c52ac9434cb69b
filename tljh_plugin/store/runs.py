"""SQL of the tables `runs` and `seen_in_use`: deletions, and when servers were last seen on images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from sqlite_utils import Database

from .rows import RunRow

# Each holds a whole plan; the audit log keeps what was done for ever.
_KEPT = 300


def put_run(db: Database, run: RunRow) -> None:
    """Add a run, or what has become of it; the oldest ones go."""
    db["runs"].upsert(asdict(run), pk="id")
    db.conn.execute(
        "DELETE FROM runs WHERE finished != ''"
        " AND id NOT IN (SELECT id FROM runs ORDER BY started DESC, id DESC LIMIT ?)",
        [_KEPT],
    )


def read_runs(db: Database, where: str, values: Collection[str], limit: int | None) -> list[RunRow]:
    """Newest first."""
    found = db["runs"].rows_where(where, list(values), order_by="started DESC, id DESC", limit=limit)
    return [RunRow(**row) for row in found]


def note_in_use(db: Database, image_ids: Collection[str], moment: str) -> None:
    """Servers run on these images now; what is known of images that are gone goes with them."""
    db.conn.executemany(
        "INSERT OR REPLACE INTO seen_in_use (image_id, time) VALUES (?, ?)",
        [(image_id, moment) for image_id in image_ids],
    )
    db.conn.execute("DELETE FROM seen_in_use WHERE image_id NOT IN (SELECT image_id FROM images)")


def rebuild_seconds(db: Database) -> dict[str, float]:
    """By identity, the longest time that a build of it took: others may have found layers in the cache."""
    sql = (
        "SELECT identity, MAX((julianday(finished) - julianday(started)) * 86400.0) FROM builds"
        " WHERE state = 'built' AND started != '' AND finished != '' GROUP BY identity"
    )
    return {identity: max(0.0, seconds) for identity, seconds in db.execute(sql) if seconds is not None}
