"""Looking at a store without being the service: read only, whoever has it open meanwhile."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sqlite_utils import Database

from .schema import migrations

_BUSY_S = 1.0


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """`damage` is SQLite's own word for what is wrong (empty: whole). `pending` are migrations that this
    version would apply, `newer` those of a later version. `wal_bytes` is what is still to be written back.
    """

    bytes: int
    wal_bytes: int
    damage: str = ""
    pending: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    projects: int = 0


def examine(path: Path) -> StoreFacts:
    """Look at all of it, which takes a second for some hundreds of megabytes. Raises `OSError`."""
    size, wal = path.stat().st_size, path.with_name(path.name + "-wal")
    wal_bytes = wal.stat().st_size if wal.exists() else 0
    try:
        with closing(_open(path)) as connection:
            said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
            if said != ["ok"]:
                return StoreFacts(size, wal_bytes, damage=said[0])
            db = Database(connection)
            applied = {each.name for each in migrations.applied(db)}
            known = [each.name for each in migrations.pending(Database(memory=True))]
            projects = _count(connection, "projects")
    except sqlite3.DatabaseError as error:
        return StoreFacts(size, wal_bytes, damage=str(error))
    return StoreFacts(
        size,
        wal_bytes,
        pending=tuple(name for name in known if name not in applied),
        newer=tuple(sorted(applied - set(known))),
        projects=projects,
    )


def has_projects(path: Path) -> bool:
    """Whether the store knows of files that were kept; false where it cannot be read."""
    with suppress(sqlite3.DatabaseError, OSError), closing(_open(path)) as connection:
        return _count(connection, "projects") > 0
    return False


def versions_in_images(path: Path, package: str) -> dict[str, str]:
    """By the name of each image that is recorded: the version of a Python package in it, where it is
    known.
    """
    found: dict[str, str] = {}
    with suppress(sqlite3.DatabaseError, OSError, ValueError), closing(_open(path)) as connection:
        rows = connection.execute(
            "SELECT images.name, packages.found FROM packages JOIN images USING (image_id)"
        )
        for name, packages in rows:
            for kind, each, version in json.loads(packages):
                if (kind, each) == ("python", package):
                    found[name] = version
    return found


def _open(path: Path) -> sqlite3.Connection:
    # Not `immutable`: the service may be writing. Read only, SQLite makes no file but the WAL's index.
    address = f"file:{quote(str(path))}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)


def _count(connection: sqlite3.Connection, table: str) -> int:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", [table])
    if there.fetchone() is None:
        return 0
    counted = connection.execute(f'SELECT COUNT(*) FROM "{table}"')  # noqa: S608  # a name of ours
    return int(counted.fetchone()[0])
