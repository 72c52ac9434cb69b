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
    """Run `command` to its end and return its lines; see `Program`."""
    program = Program(
        step, command, env=env, next_step=next_step, person=person, stdin=stdin, cwd=cwd,
        outlives_us=outlives_us, end_by=end_by,
    )  # fmt: skip
    return program.finish(step, timeout_s=timeout_s, show=show, accept=accept)


class Program:
    """A program that goes on while we do other things, until it is waited for or ended.

    With `person` it runs as that person. It gets a session of its own: Ctrl-C reaches the installer alone,
    which then ends the program with its group in good order; if the installer is killed, the program is
    told to end, too. With `outlives_us` it goes on to its own end then (dpkg, which must not stop half-way).
    `end_by` is for those that do not listen to SIGTERM. Raises `StepFailed` if it cannot be started.
    """

    def __init__(
        self,
        step: Step,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        next_step: str,
        person: Person | None = None,
        stdin: IO[bytes] | None = None,
        cwd: str = "/",
        outlives_us: bool = False,
        end_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._name = command[0]
        self._shown = shlex.join(command)
        self._next_step = next_step
        self._end_by = end_by
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self._started = time.monotonic()
        step.log(f"$ {self._shown}" + (f"   (as {person.name})" if person is not None else ""))
        # A file and not a pipe: who writes into a pipe is killed when its reader is.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the program
        # A request to end that came while the program is being started would leave it to itself.
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_in_child(self._mask, None if outlives_us else end_with_parent(end_by)),
                **(person.as_child() if person is not None else {}),
            )
        except BaseException as error:
            self._output.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            if not isinstance(error, OSError):
                raise
            raise self._failed(f"{self._name} could not be started: {error.strerror}.") from error

    def let_signals_through(self) -> None:
        """From here on a request to end is heard: whoever called us can end the program now."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def finish(
        self,
        step: Step,
        *,
        timeout_s: float = 1800.0,
        show: Callable[[str], str] = str,
        accept: Sequence[int] = (0,),
    ) -> list[str]:
        """Wait for its end and return its lines (standard output and error together).

        Raises `StepFailed` with the last lines, also when it takes longer than `timeout_s` from its start.
        """
        lines: list[str] = []
        try:
            self.let_signals_through()
            for line in _lines(self._output.fileno(), self._process, step, self._started + timeout_s):
                lines.append(line)
                self._tail.append(line)
                step.log("  " + line)
                step.say(show(line))
        except TimeoutError:
            self.close()
            raise self._failed(
                f"{self._name} did not finish within {timeout_s:.0f} s and was ended."
            ) from None
        finally:
            self.close()
        if self._process.returncode not in accept:
            raise self._failed(f"{self._name} ended with exit code {self._process.returncode}.")
        return lines

    def close(self) -> None:
        """End it, if it still runs."""
        end(self._process, self._end_by)
        self._output.close()
        self.let_signals_through()

    def _failed(self, what: str) -> StepFailed:
        return StepFailed(what, tried=self._shown, tail=self._tail, next_step=self._next_step)


def end(process: subprocess.Popen[bytes], by: signal.Signals = signal.SIGTERM) -> None:
    """End a program that we started, with its group: politely, then for certain; nothing interrupts that."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        for signum, seconds in ((by, _END_S), (signal.SIGKILL, 5.0)):
            # Not `poll`: one that has just ended by itself may have left its group, whose number is its own
            # until it is waited for.
            if process.returncode is not None:
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
