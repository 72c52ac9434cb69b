"""Give the files in a folder to another user: only those of the old one, each by what it is, never by a path.

Arguments: the number of the open folder, three that are not for us, then the old user and group and the new
ones. Runs as the old user, with the right to change owners and to look into folders that their user has
closed, and no other. No link is followed, no other file system entered; a file that has further names outside
of the folder stays as it is. The folder itself comes last, so that one which still belongs to the old user
is not done: whoever finds it begins again, and what is done is passed over. However deep folders lie in each
other, few are open at a time. Prints one line of JSON: `{"changed", "left", "linked"}`, that is how many
files were given away, how many belong to others, and how many have names elsewhere.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
import sys

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
AT_EMPTY_PATH = 0x1000  # <linux/fcntl.h>


class HandOver:
    def __init__(self, root: int, old: tuple[int, int], new: tuple[int, int]) -> None:
        self.root = root
        self.device = os.fstat(root).st_dev
        self.old, self.new = old, new
        self.changed = self.left = 0
        self._names: dict[int, int] = {}  # of files with several: how many were seen
        self._library = ctypes.CDLL(None, use_errno=True)

    @property
    def linked(self) -> int:
        """Files that have names elsewhere."""
        return len(self._names)

    def run(self) -> None:
        folder = os.open(".", FOLDER, dir_fd=self.root)
        way = [(identity(folder), self.look(folder))]
        try:
            while way:
                below = way[-1][1]
                if below:
                    inner = os.open(below.pop(), FOLDER, dir_fd=folder)
                    os.close(folder)
                    folder = inner
                    way.append((identity(folder), self.look(folder)))
                    continue
                way.pop()
                self.give(folder)
                if not way:
                    continue
                up = os.open("..", FOLDER, dir_fd=folder)
                os.close(folder)
                folder = up
                if identity(folder) != way[-1][0]:
                    raise SystemExit("a folder was moved meanwhile")
        finally:
            os.close(folder)

    def look(self, folder: int) -> list[str]:
        """Give away what is in an open folder and is none itself; the folders in it."""
        folders = []
        for name in os.listdir(folder):
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
            try:
                facts = os.fstat(held)
                if facts.st_dev != self.device:
                    self.left += 1
                elif stat.S_ISDIR(facts.st_mode):
                    folders.append(name)
                elif facts.st_nlink < 2 or self.last_name(facts):
                    self.give(held)
            finally:
                os.close(held)
        return folders

    def last_name(self, facts: os.stat_result) -> bool:
        """Whether all names of a file were seen now, so that none of them is anywhere else."""
        if facts.st_uid != self.old[0]:
            return True
        seen = self._names.pop(facts.st_ino, 0) + 1
        if seen == facts.st_nlink:
            return True
        self._names[facts.st_ino] = seen
        return False

    def give(self, held: int) -> None:
        """Give one away, if it is the old user's; its group follows if it is the old group."""
        facts = os.fstat(held)
        if facts.st_uid != self.old[0]:
            self.left += facts.st_uid != self.new[0]
            return
        group = self.new[1] if facts.st_gid == self.old[1] else -1
        # By the descriptor alone: `os.chown` knows only names, and descriptors that can be read.
        if self._library.fchownat(held, b"", self.new[0], group, AT_EMPTY_PATH) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.changed += 1


def identity(folder: int) -> tuple[int, int]:
    facts = os.fstat(folder)
    return facts.st_dev, facts.st_ino


def main() -> None:
    os.nice(5)
    numbers = [int(each) for each in sys.argv[5:9]]
    root = os.open(f"/proc/self/fd/{sys.argv[1]}", FOLDER & ~os.O_NOFOLLOW)
    work = HandOver(root, (numbers[0], numbers[1]), (numbers[2], numbers[3]))
    work.run()
    print(json.dumps({"changed": work.changed, "left": work.left, "linked": work.linked}), flush=True)


if __name__ == "__main__":
    main()
