"""Whoever changes the settings' file is found in the audit log, and what it says stays in the file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.installation import ensure_state
from tljh_plugin.service.changed_settings import ChangedSettings
from tljh_plugin.settings import Settings, load_desktop
from tljh_plugin.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "store.sqlite")
    yield store
    await store.close()


def settings(folder: Path) -> Settings:
    found = load_desktop(folder)
    ensure_state(found)
    return found


def write(folder: Path, text: str) -> None:
    """As editors do: another file in its place."""
    draft = folder / "config.draft"
    draft.write_text(text)
    draft.rename(folder / "config.yaml")


async def noted(store: Store) -> list[tuple[str, str]]:
    return [(entry.what, entry.thing) for entry in await store.audit_entries()]


async def test_only_keys_that_changed_are_noted(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "binder: {storage: {max_bytes_per_person: 5GiB}, policy: {builders: role}}")
    watch = ChangedSettings(settings(tmp_path), store)
    assert await watch.look() == [], "the first look has nothing to compare with"
    write(
        tmp_path,
        "binder: {storage: {max_bytes_per_person: 9GiB}, servers: {cpus: 1}, policy: {builders: role}}",
    )
    assert await watch.look() == ["servers.cpus", "storage.max_bytes_per_person"]
    assert await watch.look() == []
    assert await noted(store) == [("settings.change", "servers.cpus, storage.max_bytes_per_person")]


async def test_a_change_while_the_service_was_away_is_noted_once(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "binder: {policy: {builders: role}}")
    await ChangedSettings(settings(tmp_path), store).look()
    write(tmp_path, "binder: {}")
    for _ in range(2):
        await ChangedSettings(settings(tmp_path), store).look()
    assert await noted(store) == [("settings.change", "policy.builders")]


async def test_the_store_holds_no_value(store: Store, tmp_path: Path) -> None:
    write(tmp_path, "binder: {mounts: [{id: lab, source: /srv/very-telling}]}")
    await ChangedSettings(settings(tmp_path), store).look()
    kept = str(await store.notes())
    assert "mounts" in kept
    assert "telling" not in kept


async def test_it_looks_by_itself(store: Store, tmp_path: Path) -> None:
    watch = ChangedSettings(settings(tmp_path), store, period_s=0.01)
    watch.start()
    await until(lambda: watch._seen)
    write(tmp_path, "binder: {servers: {cpus: 1}}")

    async def told() -> bool:
        return await noted(store) == [("settings.change", "servers.cpus")]

    await until(told)
    await watch.stop()
