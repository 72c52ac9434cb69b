"""Python programs that begin at once: forked from a process that has imported already what they need.

Most of a round of a soak run would go into imports. What runs is the program itself in a process, a session
and an environment of its own; only that it is no child of the tests. `intervals` are constants of modules
that the program is to have, such as `{"tljh_plugin.service.tidying:PERIOD_S": 1.0}`. With a `MovedClock` its
time of day, and that of JupyterHub in it, is another than the machine's.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import json
import mmap
import os
import runpy
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class MovedClock:
    """By how many seconds the time of day is moved, in a file that programs look at whenever they ask."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("d", 0.0))

    def move(self, seconds: float) -> None:
        with self.path.open("r+b") as file:
            file.write(struct.pack("d", seconds))


class Forked:
    """What the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def __del__(self) -> None:
        os.close(self._handle)

    def _ended(self, seconds: float | None) -> bool:
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        return bool(waiting.poll(None if seconds is None else seconds * 1000))

    def poll(self) -> int | None:
        """0 however it ended."""
        return 0 if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return 0

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmPython:
    """Use as a context; `modules` are imported beforehand."""

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._modules = modules
        self._environment = environment

    def __enter__(self) -> WarmPython:
        self._process = subprocess.Popen(
            [sys.executable, "-u", __file__, *self._modules],
            env=dict(self._environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=60)

    def popen(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        intervals: Mapping[str, float] | None = None,
        clock: MovedClock | None = None,
    ) -> Forked:
        """`python -m` with `arguments`, in a session of its own; what it prints is added to `log`."""
        asked = {
            "arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "log": str(log),
            "intervals": dict(intervals or {}), "clock": str(clock.path) if clock else "",
        }  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))


def _serve() -> dict[str, Any] | None:
    """Fork for each line; in the child it returns what is asked of it."""
    # The kernel buries those who end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Else the first collection in a child would copy everything that it shares with us.
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            return dict(json.loads(line))
        print(pid, flush=True)
    return None


def _become(asked: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number, source in enumerate((nothing, log, log)):
        os.dup2(source, number)
    os.close(nothing)
    os.close(log)
    for name, value in asked["intervals"].items():
        module, _, constant = name.partition(":")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(importlib.import_module(module), constant, value)
    if asked["clock"]:
        _go_by(asked["clock"])
    module, *arguments = asked["arguments"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _go_by(clock: str) -> None:
    """Let `time.time` everywhere, and `datetime.now` in JupyterHub and our own modules, tell a moved time."""
    with open(clock, "rb") as file:
        shown = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    wall, moment = time.time, datetime.datetime

    def moved() -> float:
        return wall() + float(struct.unpack("d", shown[:8])[0])

    class Same(type):
        def __instancecheck__(cls, each: object) -> bool:
            return isinstance(each, moment)

    class Moved(moment, metaclass=Same):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return moment.fromtimestamp(moved(), tz)

    for module in list(sys.modules.values()):
        ours = getattr(module, "__name__", "").startswith(("tljh_plugin", "jupyterhub"))
        for name, value in list(vars(module).items()):
            if value is wall:
                setattr(module, name, moved)
            elif value is moment and ours:
                setattr(module, name, Moved)


if __name__ == "__main__":
    del sys.path[0]  # modules of the tests, with names that programs may have too
    for each in sys.argv[1:]:
        importlib.import_module(each)
    wanted = _serve()
    if wanted is not None:
        _become(wanted)
