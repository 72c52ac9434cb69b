"""Remove everything in a folder, but not the folder, as its user; follows no link.

Argument: the number of the open folder. However deep folders lie in each other, only two are open at a time:
what is in a folder is moved up first. Can be ended at any point and begun again. Prints one line of JSON:
`{"removed"}`.
"""

from __future__ import annotations

import json
import os
import stat
import sys

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
UP = ".littlest-binder-removing-"


def unlock(name: str, parent: int) -> int:
    """Open a folder, whatever rights its user had left themselves on it."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(handle)


def empty(root: int) -> int:
    removed = number = 0
    waiting: list[str] = []
    removed += unlink_files(root, waiting)
    while waiting:
        name = waiting.pop()
        folder = unlock(name, root)
        try:
            inner: list[str] = []
            removed += unlink_files(folder, inner)
            for each in inner:
                os.close(unlock(each, folder))  # a folder is only moved by who may write in it
                while True:
                    number += 1
                    up = f"{UP}{number}"
                    try:
                        os.stat(up, dir_fd=root, follow_symlinks=False)
                    except FileNotFoundError:
                        break
                os.rename(each, up, src_dir_fd=folder, dst_dir_fd=root)
                waiting.append(up)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=root)
        removed += 1
    return removed


def unlink_files(folder: int, folders: list[str]) -> int:
    """Remove what is no folder; the names of the folders are added to `folders`."""
    removed = 0
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            folders.append(name)
        else:
            os.unlink(name, dir_fd=folder)
            removed += 1
    return removed


def main() -> None:
    os.nice(19)
    os.chmod(f"/proc/self/fd/{sys.argv[1]}", 0o700)
    root = os.open(f"/proc/self/fd/{sys.argv[1]}", os.O_RDONLY | os.O_DIRECTORY)
    print(json.dumps({"removed": empty(root)}), flush=True)


if __name__ == "__main__":
    main()
