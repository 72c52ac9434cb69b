"""What is kept about single images and read only for their own pages: builds, launches, packages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from .connection import Connection
from .rows import utc_now

# What came out of an image is not ours: a store with a million invented packages would help nobody.
MOST_PACKAGES = 5000


@dataclass(frozen=True)
class Package:
    """A package that an image says it has; `kind` is `python`, `conda` or `debian`."""

    kind: str
    name: str
    version: str


@dataclass(frozen=True)
class PackagesRow:
    """What was found in an image when it was started for its check, and when that was."""

    recorded: str
    found: tuple[Package, ...]


@dataclass(frozen=True)
class Launch:
    """A start of an image."""

    person: str
    server: str
    time: str


@dataclass(frozen=True)
class PastBuild:
    """A build of an image's repository and commit; times are empty where it did not get so far."""

    id: str
    state: str
    requested_by: str
    created: str
    started: str
    finished: str
    image_id: str
    error: str


class AboutImages:
    """Reads and writes them. Every method raises `StoreError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def builds(self, identity: str, limit: int) -> list[PastBuild]:
        """Of one repository and commit, newest first."""
        return await self._connection.read(
            lambda db: [
                PastBuild(*row)
                for row in db.execute(
                    "SELECT id, state, requested_by, created, started, finished, image_id, error_message"
                    " FROM builds WHERE identity = ? ORDER BY created DESC, id DESC LIMIT ?",
                    [identity, limit],
                )
            ]
        )

    async def launches(self, image_id: str, limit: int) -> list[Launch]:
        """Newest first."""
        return await self._connection.read(
            lambda db: [
                Launch(*row)
                for row in db.execute(
                    "SELECT person, server, time FROM uses WHERE image_id = ? ORDER BY time DESC LIMIT ?",
                    [image_id, limit],
                )
            ]
        )

    async def packages(self, image_id: str) -> PackagesRow | None:
        """What was found in an image, if that was recorded."""
        return await self._connection.read(lambda db: _packages(db, image_id))

    async def put_packages(self, image_id: str, found: Sequence[Package]) -> None:
        """Keep what was found in an image; what is kept of images that are not recorded goes."""
        listed = json.dumps([[each.kind, each.name, each.version] for each in found[:MOST_PACKAGES]])
        await self._connection.write(lambda db: _put_packages(db, image_id, listed))


def _packages(db: Database, image_id: str) -> PackagesRow | None:
    for row in db["packages"].rows_where("image_id = ?", [image_id]):
        return PackagesRow(row["recorded"], tuple(Package(*each) for each in json.loads(row["found"])))
    return None


def _put_packages(db: Database, image_id: str, listed: str) -> None:
    db.conn.execute("DELETE FROM packages WHERE image_id NOT IN (SELECT image_id FROM images)")
    db.conn.execute("INSERT OR REPLACE INTO packages VALUES (?, ?, ?)", [image_id, utc_now(), listed])
