"""Contents of Git LFS that are put into a checkout that is given up meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from tljh_plugin.source import lfs
from tljh_plugin.source.pointers import Pointer


async def test_a_checkout_that_is_given_up_is_left_alone_before_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, target = tmp_path / "kept", tmp_path / "target"
    kept.mkdir()
    target.mkdir()
    pointers = []
    for name in ("one", "two"):
        content = name.encode()
        pointers.append(Pointer(name, hashlib.sha256(content).hexdigest(), len(content)))
        (kept / pointers[-1].oid).write_bytes(content)
        (target / name).write_text("a pointer")
    writing, go = threading.Event(), threading.Event()
    append = lfs._append

    def append_slowly(*what: Any) -> None:
        writing.set()
        go.wait(30)
        append(*what)

    monkeypatch.setattr(lfs, "_append", append_slowly)
    putting = asyncio.ensure_future(lfs._put_all(pointers, kept, target))
    await until(writing.is_set)
    putting.cancel()
    for _turn in range(10):
        await asyncio.sleep(0)
    assert not putting.done(), "the thread still writes"
    go.set()
    await asyncio.wait({putting})
    assert putting.cancelled()
    assert (target / "two").read_text() == "a pointer"
    assert sorted(each.name for each in target.iterdir()) == ["one", "two"]
