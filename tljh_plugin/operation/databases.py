"""Copies of SQLite databases that are in use, and what a copy of the store needs before another machine has
it.

A database is never opened but by SQLite: closing it in any other way would give up the locks that this
process holds on it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from sqlite_utils import Database

from ..errors import BackupFailed
from ..store.schema import migrations
from .backup_file import ImageView

_WAIT_S = 60.0
_ALL_PAGES = -1


def copy(source: Path, target: Path) -> None:
    """A consistent copy of a database while others write to it, as one file without a log beside it.

    All pages in one step: nobody's transaction is ever seen half, and a writer waits no longer than that
    takes. Raises `BackupFailed`.
    """
    try:
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)
            ) as there,
            closing(sqlite3.connect(target, isolation_level=None)) as here,
        ):
            there.backup(here, pages=_ALL_PAGES)
            here.execute("PRAGMA journal_mode = DELETE")
            found = [str(row[0]) for row in here.execute("PRAGMA quick_check(1)")]
    except sqlite3.Error as error:
        raise BackupFailed(
            f"The database {source} could not be copied: {error}.",
            "Check the free disk and the file's owner.",
        ) from error
    if found != ["ok"]:
        raise BackupFailed(f"The database {source} is damaged ({found[0]}).", "Look at the service's log.")


def settle(database: Path) -> None:
    """Write what is in a log beside a database into it, so that it is one file; one that is none stays."""
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=_WAIT_S)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        return  # it is put aside with what lies beside it


def schema_names(store: Path) -> tuple[str, ...]:
    """The migrations that a copy of the store has."""
    with closing(sqlite3.connect(store)) as db:
        return tuple(migration.name for migration in migrations.applied(Database(db)))


def known_names() -> frozenset[str]:
    """The migrations of this version."""
    return frozenset(migration.name for migration in migrations.pending(Database(memory=True)))


def images(store: Path, examples: Path) -> list[ImageView]:
    """The images of a copy of the store, and how each can be had again, but for files. The repositories in
    `examples` are made anew at each start."""
    with closing(sqlite3.connect(store)) as db:
        db.row_factory = sqlite3.Row
        found = [dict(row) for row in db.execute("SELECT * FROM images ORDER BY created, image_id")]
    return [_image(row, str(examples)) for row in found]


def _image(row: dict[str, object], examples: str) -> ImageView:
    reason = ""
    spec = str(row["spec"])
    if row.get("adopted") or spec.startswith("image/"):
        reason = "it was adopted from Docker, and nothing says how it was made"
    elif spec.startswith("local/") and f"{examples}/" not in unquote(spec):
        reason = f"it was built from the folder {row['url']}, which is not in the backup"
    return ImageView(
        image_id=str(row["image_id"]),
        name=str(row["name"]),
        title=str(row["title"]),
        spec=spec,
        commit=str(row["commit"]),
        again="nowhere" if reason else "build",
        origin="adopted" if row.get("adopted") else "imported" if row.get("imported") else "built",
        reason=reason,
        bytes=int(str(row["size"] or 0)),
    )


def rows(store: Path, query: str) -> list[tuple[object, ...]]:
    """What a copy of the store answers."""
    with closing(sqlite3.connect(store)) as db:
        return list(db.execute(query))


def fit_store(store: Path, roots: tuple[str, str]) -> None:
    """Make a copy of the store, migrated already, one of this machine.

    People's files are now below `roots[1]`, and nothing that the other machine did goes on: builds that ran
    begin again, starts in progress are over.
    """
    before, now = (root.rstrip("/") + "/" for root in roots)
    with closing(sqlite3.connect(store)) as db, db:
        for table in ("projects", "sizes"):
            db.execute(
                f"UPDATE {table} SET path = ? || substr(path, ?) WHERE substr(path, 1, ?) = ?",  # noqa: S608
                [now, len(before) + 1, len(before), before],
            )
        db.execute(
            "UPDATE builds SET state = 'queued', phase = 'queued', progress = 0 WHERE state = 'running'"
        )
        db.execute("UPDATE builds SET worker_pid = 0, worker_start = 0")
        db.execute("DELETE FROM leases")
        # What Docker has, and what was begun there, is another Docker's.
        for table in ("removals", "leftovers"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are ours
        db.execute("DELETE FROM notes WHERE name LIKE 'import %' OR name LIKE 'lost %'")
