"""Binder at home without a terminal: `littlest-binder up` in the background, waited for, and stopped."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import HubUnavailable
from ..settings import Settings
from . import autostart
from .at_home import answers, hub_log, lock_path

COMMAND = (sys.executable, "-m", "tljh_plugin.cli")
_STOP_S = 180.0
_POLL_S = 0.2
_LOG_BYTES = 1024**2
_TAIL_LINES = 20


def log_path(settings: Settings) -> Path:
    """Where `up` writes what it would say on a terminal."""
    return settings.log_dir / "up.log"


def holder(settings: Settings) -> int | None:
    """The process in which `littlest-binder up` runs, 0 if it is not known; None if none runs."""
    try:
        with lock_path(settings).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with suppress(ValueError, KeyError, TypeError):
                    return int(json.loads(file.read())["pid"])
                return 0
    except FileNotFoundError:
        pass
    return None


async def ensure_running(settings: Settings, say: Callable[[str], None]) -> bool:
    """Start it unless it runs, and wait until it answers; whether it was started.

    As the unit of the autostart, where there is one: so it belongs to it. `say` gets the lines of a start.
    Raises `HubUnavailable` with the last ones if it ends instead.
    """
    if await answers(settings):
        return False
    lives: Callable[[], bool] = lambda: False  # noqa: E731 - one of three
    process: subprocess.Popen[bytes] | None = None
    log = _Log(log_path(settings))
    started = holder(settings) is None
    if not started:
        say("It is being started already.")
    elif autostart.installed():
        await asyncio.to_thread(autostart.start)
        lives = lambda: autostart.status().active  # noqa: E731
    else:
        process = spawned = _spawn(settings)
        lives = lambda: spawned.poll() is None  # noqa: E731
    while not await answers(settings):
        log.tell(say)
        if not await asyncio.to_thread(lives) and holder(settings) is None and not await answers(settings):
            log.tell(say)
            raise HubUnavailable(
                "\n".join(["The Littlest Binder ended while it started.", *log.tail]),
                _where(settings),
            )
        await asyncio.sleep(_POLL_S)
    if process is not None:
        await _until_settled(settings, process)
    log.tell(say)
    return started


async def _until_settled(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    """Until it is ours that runs, or ours has ended because somebody else's does: one that is late would
    otherwise begin after a `stop`.
    """
    while process.poll() is None and holder(settings) != process.pid:  # noqa: ASYNC110 - nobody tells us
        await asyncio.sleep(_POLL_S)


def _where(settings: Settings) -> str:
    if autostart.installed():
        return "All that it said: `journalctl --user --unit littlest-binder`."
    return f"All that it said: {log_path(settings)}."


def _spawn(settings: Settings) -> subprocess.Popen[bytes]:
    path = log_path(settings)
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.unlink()
    with path.open("ab") as log:
        return subprocess.Popen(
            [*COMMAND, "up", "--no-link"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path.home(),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )


class _Log:
    """What is written to a file from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        if self._offset > _LOG_BYTES:
            self._offset = 0
        self._rest = ""
        self.tail: list[str] = []

    def tell(self, say: Callable[[str], None]) -> None:
        """Say the lines that have come since the last time."""
        text = ""
        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._offset)
            raw = file.read()
            self._offset += len(raw)
            text = raw.decode(errors="replace")
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            self.tail = [*self.tail, line][-_TAIL_LINES:]
            say(line)


def _runs(number: int) -> bool:
    """Whether a process is there that has not ended: it lets go of the lock somewhat earlier."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


async def stop(settings: Settings) -> bool:
    """End what runs, as Ctrl-C does, and wait until it has; whether there was anything.

    Raises `HubUnavailable` if it does not end within 180 s, or if it cannot be told which process it is.
    """
    number = holder(settings)
    if number is None:
        return False
    if not number:
        raise HubUnavailable(
            f"Something holds {lock_path(settings)} and does not say which process it is.",
            "End it with Ctrl-C where it runs.",
        )
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGTERM)
    clock = asyncio.get_running_loop().time
    deadline = clock() + _STOP_S
    while holder(settings) is not None or _runs(number):
        if clock() > deadline:
            raise HubUnavailable(
                f"Process {number} was asked to end and did not within {_STOP_S:.0f} s.",
                f"See {log_path(settings)} and {hub_log(settings)}; `kill -9 {number}` ends it for certain.",
            )
        await asyncio.sleep(_POLL_S)
    return True
