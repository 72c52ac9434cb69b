"""Removing stored copies of repositories, by itself and by an administrator at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from waiting import until

from tljh_plugin.cache import mirrors
from tljh_plugin.cache.mirrors import Mirrors
from tljh_plugin.settings import from_mapping
from tljh_plugin.source import mirrors as folders
from tljh_plugin.store import ImageRow

T = TypeVar("T")


async def test_what_somebody_is_removing_was_not_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = from_mapping({"retention": {"enabled": False}}, platform="desktop", state_dir=tmp_path)
    copy = settings.mirror_dir / "a-b-0123456789abcdef"
    copy.mkdir(parents=True)
    (copy / "lock").touch()
    noted: list[str] = []
    counting, go = threading.Event(), threading.Event()
    at_work: list[object] = []
    occupied, in_thread = folders.occupied_bytes, mirrors.in_thread

    async def images() -> Sequence[ImageRow]:
        return ()

    async def note(who: str, what: str, thing: str, result: str) -> None:
        noted.append(who)

    def count_slowly(folder: Path) -> int:
        counting.set()
        go.wait(30)
        return occupied(folder)

    async def seen_in_thread(work: Callable[[], T]) -> T:
        at_work.append(work)
        try:
            return await in_thread(work)
        finally:
            at_work.remove(work)

    monkeypatch.setattr(folders, "occupied_bytes", count_slowly)
    monkeypatch.setattr(mirrors, "in_thread", seen_in_thread)
    keeper = Mirrors(settings, images, note)
    removing = asyncio.ensure_future(keeper.remove("root"))
    await until(counting.is_set)
    tidying = asyncio.ensure_future(keeper.tidy())
    await asyncio.sleep(0)
    try:
        assert len(at_work) == 1, "nothing else is taken away meanwhile"
    finally:
        go.set()
        await asyncio.wait({removing, tidying})
    assert [each.name for each in removing.result()] == [copy.name]
    assert noted == ["root"]
