"""Running other programs: no shell, no terminal, everything into the log, the last lines into the error."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from .console import Step, StepFailed
from .person import Person

TAIL_LINES = 12
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How long a program that we end may take to put things in order (dpkg in the middle of a package).
_END_S = 30.0
# Docker's command waits without a limit for a Docker that accepts connections and answers nothing.
_DOCKER_S = 60.0
_PR_SET_PDEATHSIG = 1
# What a terminal, its closing, or a service manager sends to end us.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def which(program: str) -> str | None:
    """The program's path in the system's own folders; never in one that a person can write."""
    for folder in PATH.split(":"):
        candidate = Path(folder) / program
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def alive(pid: int) -> bool:
    """Whether a process runs.

    One that has ended and that nobody has asked for its exit code yet keeps its number (a zombie, see
    proc(5)); where the first process is no init, as in many containers, it does so for ever.
    """
    with contextlib.suppress(OSError, IndexError):
        # The name, in parentheses, may itself hold parentheses and blanks.
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    return False


def ask_docker(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What the `docker` command says to a short question. Raises `StepFailed` if it says nothing in time."""
    command = ["docker", *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(env), timeout=_DOCKER_S
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(
            f"Docker did not answer within {_DOCKER_S:.0f} s.",
            tried=shlex.join(command),
            next_step="See why `docker info` does not answer (`systemctl restart docker`), then run the "
            "command again.",
        ) from None


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """A function for the child, before it executes: this signal when the process that started it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, by)

    return set_signal


def _in_child(mask: Iterable[int], bound: Callable[[], None] | None) -> Callable[[], None]:
    def prepare() -> None:
        if bound is not None:
            bound()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return prepare


def run(
    step: Step,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    next_step: str,
    person: Person | None = None,
    stdin: IO[bytes] | None = None,
    cwd: str = "/",
    timeout_s: float = 1800.0,
    show: Callable[[str], str] = str,
    accept: Sequence[int] = (0,),
    outlives_us: bool = False,
    end_by: signal.Signals = signal.SIGTERM,
) -> list[str]:
    """Run `command` to its end and return its lines (standard output and error together).

    With `person` it runs as that person. It gets a session of its own: Ctrl-C reaches the installer alone,
    which then ends the program with its group in good order; if the installer is killed, the program is
    told to end, too. With `outlives_us` it goes on to its own end then (dpkg, which must not stop half-way).
    `end_by` is for those that do not listen to SIGTERM. Raises `StepFailed` with the last lines.
    """
    shown = shlex.join(command)
    step.log(f"$ {shown}" + (f"   (as {person.name})" if person is not None else ""))
    lines: list[str] = []
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)

    def failed(what: str) -> StepFailed:
        return StepFailed(what, tried=shown, tail=tail, next_step=next_step)

    # A file and not a pipe: who writes into a pipe is killed when its reader is.
    with tempfile.TemporaryFile() as output:
        # A request to end that came while the program is being started would leave it to itself.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_in_child(mask, None if outlives_us else end_with_parent(end_by)),
                **(person.as_child() if person is not None else {}),
            )
        except BaseException as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not isinstance(error, OSError):
                raise
            raise failed(f"{command[0]} could not be started: {error.strerror}.") from error
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for line in _lines(output.fileno(), process, step, time.monotonic() + timeout_s):
                lines.append(line)
                tail.append(line)
                step.log("  " + line)
                step.say(show(line))
        except TimeoutError:
            end(process, end_by)
            raise failed(f"{command[0]} did not finish within {timeout_s:.0f} s and was ended.") from None
        except BaseException:
            end(process, end_by)
            raise
    if process.returncode not in accept:
        raise failed(f"{command[0]} ended with exit code {process.returncode}.")
    return lines


def end(process: subprocess.Popen[bytes], by: signal.Signals = signal.SIGTERM) -> None:
    """End a program that we started, with its group: politely, then for certain; nothing interrupts that."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        for signum, seconds in ((by, _END_S), (signal.SIGKILL, 5.0)):
            if process.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signum)
                process.wait(timeout=seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Stopped(BaseException):
    """We were asked to end, by this signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


# Signals that asked us to end. Python drops what a signal's handler raises while a finalizer runs, so who
# waits for long looks here as well.
requests: list[int] = []


def _lines(output: int, process: subprocess.Popen[bytes], step: Step, deadline: float) -> Iterator[str]:
    """Whole lines as they come, until the process has ended; a carriage return ends a line, too.

    Raises `TimeoutError`.
    """
    pending, offset = b"", 0
    while True:
        ended = process.poll() is not None
        while chunk := os.pread(output, 65536, offset):
            offset += len(chunk)
            *complete, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in complete:
                if line.strip():
                    yield line.decode("utf-8", "replace").rstrip()
        if ended:
            break
        step.tick()
        if requests:
            raise Stopped(requests[-1])
        if time.monotonic() > deadline:
            raise TimeoutError
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
    if pending.strip():
        yield pending.decode("utf-8", "replace").rstrip()
