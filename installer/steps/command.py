"""Running other programs: no shell, no terminal, everything into the log, the last lines into the error."""

from __future__ import annotations

import collections
import ctypes
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from .console import Step, StepFailed
from .person import Person

TAIL_LINES = 12
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How long a program that we end may take to put things in order (dpkg in the middle of a package).
_END_S = 30.0
_PR_SET_PDEATHSIG = 1


def which(program: str) -> str | None:
    """The program's path in the system's own folders; never in one that a person can write."""
    for folder in PATH.split(":"):
        candidate = Path(folder) / program
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def end_with_parent() -> Callable[[], None]:
    """A function for the child, before it executes: SIGTERM when the process that started it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def set_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return set_signal


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
    bound_to_us: bool = False,
) -> list[str]:
    """Run `command` to its end and return its lines (standard output and error together).

    With `person` it runs as that person. It gets a session of its own: Ctrl-C reaches the installer alone,
    which then ends the program with its group in good order. `bound_to_us` ends it as well when the
    installer is killed. Raises `StepFailed` with the last lines.
    """
    shown = shlex.join(command)
    step.log(f"$ {shown}" + (f"   (as {person.name})" if person is not None else ""))
    lines: list[str] = []
    tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)

    def failed(what: str) -> StepFailed:
        return StepFailed(what, tried=shown, tail=tail, next_step=next_step)

    try:
        process = subprocess.Popen(
            list(command),
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=end_with_parent() if bound_to_us else None,
            **(person.as_child() if person is not None else {}),
        )
    except OSError as error:
        raise failed(f"{command[0]} could not be started: {error.strerror}.") from error
    assert process.stdout is not None
    try:
        deadline = time.monotonic() + timeout_s
        for line in _lines(process.stdout, step, deadline):
            lines.append(line)
            tail.append(line)
            step.log("  " + line)
            step.say(show(line))
        process.wait(timeout=max(1.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        end(process)
        raise failed(f"{command[0]} did not finish within {timeout_s:.0f} s and was ended.") from None
    except BaseException:
        end(process)
        raise
    finally:
        process.stdout.close()
    if process.returncode not in accept:
        raise failed(f"{command[0]} ended with exit code {process.returncode}.")
    return lines


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program that we started, with its group: first politely, then for certain."""
    for signum, seconds in ((signal.SIGTERM, _END_S), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signum)
            process.wait(timeout=seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _lines(stream: IO[bytes], step: Step, deadline: float) -> Iterator[str]:
    """Whole lines as they come; carriage returns count as line ends. Raises `TimeoutError`."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=0.2):
                step.tick()
                if time.monotonic() > deadline:
                    raise TimeoutError
                continue
            chunk = os.read(stream.fileno(), 65536)
            if not chunk:
                break
            *complete, pending = (pending + chunk).replace(b"\r", b"\n").split(b"\n")
            for line in complete:
                if line.strip():
                    yield line.decode("utf-8", "replace").rstrip()
    if pending.strip():
        yield pending.decode("utf-8", "replace").rstrip()
