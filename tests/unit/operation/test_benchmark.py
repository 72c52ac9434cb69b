"""The benchmark of backups in small: everything is back, file by file, and it would say if it were not."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path

from installation_on_disk import OnDisk

from tljh_plugin.operation import backup, restore, restoring
from tljh_plugin.operation.backup import Wish
from tljh_plugin.operation.backup_file import verify

_spec = importlib.util.spec_from_file_location(
    "backup_benchmark", Path(__file__).parents[2] / "benchmarks" / "backup.py"
)
assert _spec is not None
assert _spec.loader is not None
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)


def test_everything_is_back_file_by_file(tmp_path: Path) -> None:
    before, after = OnDisk(tmp_path / "before"), OnDisk(tmp_path / "after")
    benchmark.fill(before, 20, 3)
    made = asyncio.run(backup.make(before.installed, Wish(projects=True)))
    plan = restore.decide(verify(made.file), after.installed, None, "20260101T000000Z")
    asyncio.run(restoring.carry_out(plan))
    assert benchmark.differences(before, after) == []
    [note, *_] = after.root.glob("*/lab-*/home/notebooks/7.ipynb")
    os.utime(note, ns=(1, 1))
    assert len(benchmark.differences(before, after)) == 1
