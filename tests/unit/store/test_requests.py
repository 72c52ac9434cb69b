"""Builds and audit entries keep the id of the request in which they came about."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from tljh_plugin import request_ids
from tljh_plugin.store import AuditFilter, BuildRow, Store, utc_now


async def test_what_is_noted_in_a_request_is_found_by_its_id(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.sqlite")

    async def act(request: str) -> None:
        with request_ids.belonging(request):
            await store.audit("ann", "image.pin", request, "done")

    await asyncio.gather(*(act(f"request-{number}") for number in range(20)), act(""))
    for number in range(20):
        [entry] = await store.audit_log.entries(AuditFilter(request=f"request-{number}"))
        assert entry.thing == entry.request == f"request-{number}"
    assert sum(not entry.request for entry in await store.audit_entries()) == 1
    await store.close()


async def test_a_store_of_before_has_none(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.sqlite")
    wish = BuildRow(
        "b-1", "i", "https://example.org/a", "c" * 40, "", "linux/amd64", "gh/a/b", "main", "ann", utc_now()
    )
    await store.enqueue(wish, per_person=3)
    await store.audit("ann", "build.request", "gh/a/b", "b-1")
    await store.close()
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        for table in ("builds", "audit"):
            db.execute(f"DROP INDEX {table}_by_request")
            db.execute(f"ALTER TABLE {table} DROP COLUMN request")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'm0015_requests'")
    db.close()
    again = await Store.open(tmp_path / "store.sqlite")
    build = await again.build("b-1")
    assert build is not None
    assert build.request == ""
    assert [entry.request for entry in await again.audit_entries()] == [""]
    await again.close()
