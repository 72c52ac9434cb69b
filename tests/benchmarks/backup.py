"""A backup of 1,000 image records and 50 projects, restored on an empty machine: time, size, and every file.

    python tests/benchmarks/backup.py [--images 1000] [--projects 50]

Ends with 1 if anything is not as it was. Needs no Docker: images come back in `tests/integration/operation`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from installation_on_disk import OnDisk, seen

from tljh_plugin.operation import backup, restore, restoring
from tljh_plugin.operation.backup import Wish
from tljh_plugin.operation.backup_file import verify

T = TypeVar("T")
_FILES = 100  # small ones in each project, besides those that are odd
_TABLES = ("images", "projects", "builds", "audit", "uses")


def timed(what: str, work: Callable[[], T]) -> T:
    begun, used = time.monotonic(), time.process_time()
    result = work()
    print(f"{what}: {time.monotonic() - begun:.1f} s, of which {time.process_time() - used:.1f} s were work")
    return result


def fill(place: OnDisk, images: int, projects: int) -> None:
    place.fill(images, projects)
    for home in place.root.glob("*/lab-*/home"):
        folder = home / "notebooks"
        folder.mkdir()
        for number in range(_FILES):
            text = f'{{"cells": [{{"source": "print({number})", "of": "{home.parent.name}"}}]}}\n'
            (folder / f"{number}.ipynb").write_text(text * 100)


def differences(before: OnDisk, after: OnDisk) -> list[str]:
    """What is not as it was: every file of everybody, every row, every secret."""
    found = []
    ours, theirs = (seen(each.root) for each in (before, after))
    for name in sorted(ours.keys() | theirs.keys()):
        if name.count("/") > 1 and ours.get(name) != theirs.get(name):
            found.append(f"{name}: {ours.get(name)} → {theirs.get(name)}")
    for table in _TABLES:
        query = f"SELECT * FROM {table} ORDER BY 1, 2"
        rows = [
            [tuple(str(value).replace(str(each.root), "ROOT") for value in row) for row in each.rows(query)]
            for each in (before, after)
        ]
        # The restore itself is noted as well.
        if table == "audit":
            rows[1] = [row for row in rows[1] if "settings.restore" not in row]
        if rows[0] != rows[1]:
            found.append(f"rows of {table}: {len(rows[0])} → {len(rows[1])}")
    for name in ("instance", "secret", "config.yaml", "hub/cookie_secret", "logs/b-1.jsonl"):
        if (before.state / name).read_bytes() != (after.state / name).read_bytes():
            found.append(name)
    return found


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--projects", type=int, default=50)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before, after = OnDisk(Path(folder) / "before"), OnDisk(Path(folder) / "after")
        fill(before, given.images, given.projects)
        facts = seen(before.root)
        stored = sum(path.lstat().st_blocks * 512 for path in before.state.rglob("*") if path.is_file())
        print(f"{given.images} image records, {given.projects} projects, {len(facts)} entries")
        print(f"on the disk: {stored // 1024**2} MiB")
        made = timed("backup", lambda: asyncio.run(backup.make(before.installed, Wish(projects=True))))
        print(f"size: {made.bytes // 1024**2} MiB")
        found = timed("check of the whole file", lambda: verify(made.file))
        plan = timed("plan", lambda: restore.decide(found, after.installed, None, "20260101T000000Z"))
        timed("restore", lambda: asyncio.run(restoring.carry_out(plan)))
        wrong = timed("comparison", lambda: differences(before, after))
        print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    for line in wrong[:20]:
        print(line)
    print(f"{len(wrong)} differences in {len(facts)} entries")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
