"""A terminal that is closed while Binder at home runs in it."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from desktop import free_port

pytestmark = [pytest.mark.docker, pytest.mark.hub]


def until(condition: Callable[[], object], timeout_s: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def living(home: Path) -> dict[int, str]:
    """Numbers and command lines of the processes that know of this installation's folder."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if str(home).encode() in told and state not in "ZX" and int(entry.name) != os.getpid():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def test_closing_the_terminal_stops_everything(tmp_path: Path) -> None:
    state = tmp_path / "littlest-binder"
    state.mkdir()
    (state / "config.yaml").write_text(f"binder:\n  desktop:\n    port: {free_port()}\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["XDG_DATA_HOME"] = str(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "tljh_plugin.cli", "up", "--no-browser"])
    shown = b""
    deadline = time.monotonic() + 400
    while not re.search(rb"is ready at", shown):
        assert time.monotonic() < deadline, shown.decode()
        shown += os.read(terminal, 4096)
    assert len(living(tmp_path)) > 2
    # The kernel sends SIGHUP, and every write from now on fails.
    os.close(terminal)
    try:
        until(lambda: not living(tmp_path), 180, lambda: f"still there: {living(tmp_path).values()}")
    finally:
        for number in living(tmp_path):
            os.kill(number, signal.SIGKILL)
        os.waitpid(pid, 0)
