"""One SQLite connection in one thread: every read and write of the store goes through it in order."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlite_utils import Database

from ..errors import StoreError
from .lock import StoreLock
from .schema import migrations

Result = TypeVar("Result")


class Connection:
    """`open`, then `read` and `write` (each runs a function of the database in its thread), then `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = StoreLock(path.with_name(path.name + ".lock"))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._db: Database | None = None

    async def open(self) -> None:
        """Lock, check, migrate. Raises `StoreError`; a file that cannot be used is left as it is."""
        await self._call(self._open)

    async def read(self, work: Callable[[Database], Result]) -> Result:
        return await self._call(lambda: work(self._database()))

    async def write(self, work: Callable[[Database], Result]) -> Result:
        """Run `work` in one transaction: all of it is on disk when this returns, or nothing."""
        return await self._call(lambda: self._transaction(work))

    async def close(self) -> None:
        """Write back the WAL and give the lock back; can be called again."""
        await asyncio.get_running_loop().run_in_executor(None, self._shut)

    # -- in the thread --------------------------------------------------------------------------------

    async def _call(self, work: Callable[[], Result]) -> Result:
        try:
            # With the context: an audit entry keeps the id of the request that it belongs to.
            inside = contextvars.copy_context()
            running = asyncio.get_running_loop().run_in_executor(self._thread, lambda: inside.run(work))
        except RuntimeError:  # the thread has ended: it was closed
            raise self._not_open() from None
        try:
            return await running
        except sqlite3.DatabaseError as error:
            raise _explain(error, self.path) from error

    def _database(self) -> Database:
        if self._db is None:
            raise self._not_open()
        return self._db

    def _not_open(self) -> StoreError:
        return StoreError(f"The store {self.path} is not open.", "Open it before it is used.")

    def _transaction(self, work: Callable[[Database], Result]) -> Result:
        db = self._database()
        # IMMEDIATE: a deferred transaction that reads before it writes can fail with SQLITE_BUSY_SNAPSHOT.
        db.conn.execute("BEGIN IMMEDIATE")
        try:
            result = work(db)
            db.conn.execute("COMMIT")
        except BaseException:
            db.rollback()
            raise
        return result

    def _open(self) -> None:
        self._lock.take()
        try:
            self._db = self._connect()
        except BaseException:
            self._lock.release()
            raise

    def _connect(self) -> Database:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreError(
                f"Cannot open the store {self.path}: {error.strerror}.",
                "Check its owner and the free disk.",
            ) from error
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        try:
            db = Database(connection)
            self._refuse_what_is_not_ours(db)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            migrations.apply(db)
        except BaseException:
            connection.close()
            raise
        return db

    def _refuse_what_is_not_ours(self, db: Database) -> None:
        """Before anything is written: the file is whole, and no newer version has migrated it."""
        problems = [row[0] for row in db.conn.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise _damaged(self.path, str(problems[0]))
        applied = [migration.name for migration in migrations.applied(db)]
        known = {migration.name for migration in migrations.pending(Database(memory=True))}
        newer = [name for name in applied if name not in known]
        if newer:
            raise StoreError(
                f"The store {self.path} was written by a newer version (it has the migration {newer[0]}).",
                "Install that version again, or restore a backup made before the upgrade.",
            )
        if not applied and db.table_names():
            raise StoreError(
                f"{self.path} is an SQLite file of something else (it has the table {db.table_names()[0]}).",
                "Move it away and start again.",
            )

    def _shut(self) -> None:
        try:
            self._thread.submit(self._close).result()
        except RuntimeError:  # the thread has ended: it was closed before
            return
        self._thread.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self._lock.release()


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"The store {path} is damaged ({reason}).",
        "Nothing was changed. Restore a backup, or move the file away and start again: images and people's "
        "files are not in it, only the history is.",
    )


def _explain(error: sqlite3.DatabaseError, path: Path) -> StoreError:
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return _damaged(path, text)
    if "disk is full" in text or "disk I/O" in text:
        return StoreError(f"Cannot write the store {path}: {text}.", "Free some disk and try again.")
    return StoreError(
        f"The store {path} refused: {text}.", "See the service's log; this is a bug if it repeats."
    )
