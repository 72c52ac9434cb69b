"""One run at a time for a person, and the hub in the foreground."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, TextIO

from .command import ENDING, Stopped, requests
from .console import StepFailed
from .person import Person
from .site import Site

_LOCK = "install.lock"
_HUB_LOCK = "run/up.lock"


@contextlib.contextmanager
def answering(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """`handler` for every signal that would end us; those that nohup(1) made us ignore stay ignored."""
    heard = [signum for signum in ENDING if signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in heard}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGQUIT end what is going on like Ctrl-C does: in good order."""

    def stop(signum: int, frame: FrameType | None) -> None:
        requests.append(signum)
        raise Stopped(signum)

    requests.clear()
    try:
        with answering(stop):
            yield
    finally:
        requests.clear()


@contextlib.contextmanager
def unstoppable() -> Iterator[None]:
    """Nothing interrupts what puts things in order."""
    with answering(signal.SIG_IGN):
        yield


class Lock:
    """Held from the first change to the end of the hub; says to the next one how far we are."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, phase: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"pid": os.getpid(), "phase": phase}))
        self._file.flush()


def holder(state: Path, person: Person) -> dict[str, object]:
    """Process number (0: not known) and phase of the run that goes on; empty if none does. Changes nothing.

    `littlest-binder up` has a lock of its own: it may have been started by hand, or outlive its installer.
    """
    for name, phase in ((_LOCK, "installing"), (_HUB_LOCK, "running")):
        text = _held(state / name, person)
        if text is not None:
            found: dict[str, object] = {"pid": 0, "phase": phase}
            with contextlib.suppress(ValueError):
                found |= json.loads(text)
            return found
    return {}


def _held(path: Path, person: Person) -> str | None:
    """The content of a lock file that somebody holds; None if nobody does."""
    with person.acting():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


@contextlib.contextmanager
def lock(site: Site) -> Iterator[Lock]:
    """Raises `StepFailed` if another run got it first."""
    with site.person.acting():
        descriptor = os.open(site.state / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StepFailed(
                "Another run of this command began at the same moment.",
                next_step="Wait for it; this command then prints a new sign-in link.",
            ) from None
        held = Lock(file)
        held.write("installing")
        yield held


def command(site: Site) -> str:
    return str(site.venv / "bin" / "littlest-binder")


def new_link(site: Site) -> tuple[int, str]:
    """`littlest-binder link` as the person: exit code and what it printed."""
    try:
        shown = subprocess.run(
            [command(site), "link"],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=site.person_env,
            timeout=60,
            **site.person.as_child(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return shown.returncode, (shown.stdout if shown.returncode == 0 else shown.stderr).strip()


def foreground(site: Site, options: Sequence[str], lifeline: Sequence[int]) -> int:
    """`littlest-binder up` as the person until it ends; its exit code.

    It gets a session of its own, so that Ctrl-C in the terminal reaches it exactly once: from us. It inherits
    the engine's lifeline: should we be killed, the engine goes on until it has ended, too.
    """
    early: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(signum: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(signum)
        elif process.poll() is None:
            process.send_signal(signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

    with answering(pass_on):
        process = subprocess.Popen(
            [command(site), "up", *options],
            stdin=subprocess.DEVNULL,
            cwd=site.person.home,
            env=site.person_env,
            pass_fds=tuple(lifeline),
            start_new_session=True,
            **site.person.as_child(),
        )
        for signum in early[:1]:
            # It came while the process was being made, and reached nobody.
            pass_on(signum, None)
        code = process.wait()
    return code if code >= 0 else 128 - code


def open_log(path: Path, largest: int) -> TextIO:
    """The log, to add to; begun anew when it is larger than `largest` bytes. Call it as its owner."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o644)

    log = open(path, "a", encoding="utf-8", opener=opener)  # noqa: SIM115 - the caller closes it
    if log.tell() > largest:
        log.truncate(0)
    return log
