"""Remove everything below a folder that was being filled, but not the folder; follows no link.

Argument: the folder. Nobody else writes there meanwhile, and no path in it is longer than the receiver
allowed.
"""

from __future__ import annotations

import os
import sys


def empty(root: bytes) -> None:
    folders, waiting = [], [root]
    while waiting:
        folder = waiting.pop()
        os.chmod(folder, 0o700)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)


if __name__ == "__main__":
    empty(os.fsencode(sys.argv[1]))
