"""Measure what a folder occupies, as its user; follows no link, and rests as long as it works.

Argument: the number of the open folder. Prints one line of JSON: `{"bytes", "entries", "whole", "worked"}`,
that is the allocated bytes with hard links counted once, whether everything could be looked at, and the
seconds of work.
"""

from __future__ import annotations

import json
import os
import resource
import stat
import sys
import time

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
DEEPEST = 400  # folders in folders; each is open while what is in it is measured
MOST_ENTRIES = 5_000_000
WORK_S = 0.05
MEMORY = 2 * 1024**3


class Measure:
    def __init__(self, root: int) -> None:
        facts = os.fstat(root)
        self.device = facts.st_dev
        self.bytes = facts.st_blocks * 512
        self.entries = 0
        self.whole = True
        self.worked = 0.0
        self._linked: set[int] = set()
        self._begun = time.monotonic()

    def measure(self, root: int) -> None:
        open_folders = [(root, self.look(root))]
        while open_folders:
            folder, below = open_folders[-1]
            if not below:
                os.close(folder)
                open_folders.pop()
            elif len(open_folders) > DEEPEST or self.entries > MOST_ENTRIES:
                self.whole = False
                below.clear()
            else:
                try:
                    inner = os.open(below.pop(), FOLDER, dir_fd=folder)
                except FileNotFoundError:
                    continue
                except OSError:
                    self.whole = False
                    continue
                open_folders.append((inner, self.look(inner)))
        self.worked += time.monotonic() - self._begun

    def look(self, folder: int) -> list[str]:
        """Count what is in an open folder; the folders in it."""
        below = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        facts = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if facts.st_dev != self.device:
                        continue
                    self.count(facts)
                    if stat.S_ISDIR(facts.st_mode):
                        below.append(entry.name)
        except OSError:
            self.whole = False
        return below

    def count(self, facts: os.stat_result) -> None:
        self.entries += 1
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            if facts.st_ino in self._linked:
                return
            self._linked.add(facts.st_ino)
        self.bytes += facts.st_blocks * 512
        worked = time.monotonic() - self._begun
        if worked > WORK_S:
            self.worked += worked
            time.sleep(worked)
            self._begun = time.monotonic()


def main() -> None:
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    measure = Measure(int(sys.argv[1]))
    try:
        # The descriptor only names the folder; this opens it.
        root = os.open(f"/proc/self/fd/{sys.argv[1]}", os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        measure.whole = False
    else:
        measure.measure(root)
    said = {
        "bytes": measure.bytes,
        "entries": measure.entries,
        "whole": measure.whole,
        "worked": round(measure.worked, 3),
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
