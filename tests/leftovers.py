"""What there is before the tests, and what is there more or less after them. The standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
# A process that was told to end may take this long until it is gone, in seconds.
GRACE_S = 60.0


def docker_things() -> dict[str, str]:
    """Containers, networks and volumes that Docker has now: name by kind and id."""
    found = {}
    for kind, command in (
        ("container", ["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} ({{.Image}})"]),
        ("network", ["network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"]),
        ("volume", ["volume", "ls", "--format", "{{.Name}}"]),
    ):
        shown = subprocess.run(["docker", *command], capture_output=True, text=True, check=True)
        for line in shown.stdout.splitlines():
            found[f"{kind} {line.split()[0]}"] = f"{kind} {line}"
    return found


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line a thing that appeared or went."""
    return [f"left behind: {after[key]}" for key in sorted(after.keys() - before.keys())] + [
        f"gone: {before[key]}" for key in sorted(before.keys() - after.keys())
    ]


def collect_orphans() -> None:
    """Become the parent of every process below us whose own parent ends, so that none gets out of sight."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def left_processes(known: set[int], grace_s: float = GRACE_S) -> list[str]:
    """End the processes that the tests started and that run on after `grace_s` seconds; their command lines.

    Those of `known` are ours and go on.
    """
    found: list[str] = []
    deadline = time.monotonic() + grace_s
    while left := _living_children(known):
        if time.monotonic() > deadline:
            for number in left:
                found.append(f"left behind, and ended now: process {number} {_command_line(number)}")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        time.sleep(0.1)
    return list(dict.fromkeys(found))


def _living_children(known: set[int]) -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    return [number for number in _children(os.getpid()) if number not in known]


def _command_line(number: int) -> str:
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{number}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
            .strip()
        )
    return ""


def _children(parent: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    yield int(entry.name)
