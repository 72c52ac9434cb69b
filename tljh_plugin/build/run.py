"""One worker: started, listened to, limited, and ended with everything that it started.

The worker leads a session of its own. Its stdin stays open as a life-line: when this process dies in any way,
the worker reads the end of it and ends its own group.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .. import request_ids
from ..errors import BuildTimedOut
from ..time_limit import within
from ..wire import ErrorView
from .job import LogEvent, PhaseEvent, ResultEvent, WorkerJob, parse_event
from .processes import MARK, end_group, process_facts

_log = logging.getLogger("littlest_binder.run")

WORKER = (sys.executable, "-m", "tljh_plugin.build.worker")
MAX_LINE_BYTES = 256 * 1024
TAIL_LINES = 2000
_READ_BYTES = 64 * 1024
_GUARD_S = 3.0
_FAREWELL_S = 10.0  # from the result to the end of the process
_DRAIN_S = 2.0  # from the end of the group to the end of its pipes
_BEHIND_S = 60.0  # and from there on while what was said is still being written, as on a disk that stalls
_MIN_SECRET = 4  # shorter ones would blank ordinary text

# What a build needs of our environment; never the hub's tokens.
_INHERITED = re.compile(
    r"PATH|HOME|LANG|LC_ALL|TZ|XDG_CONFIG_(HOME|DIRS)|BUILDX_(BUILDER|CONFIG)"
    r"|DOCKER_(HOST|CONTEXT|CONFIG|TLS_VERIFY|CERT_PATH|API_VERSION)"
    r"|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|(?i:(https?|ftp|no|all)_proxy)"
    r"|PIP_(CONFIG_FILE|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|CERT)"
    r"|UV_(DEFAULT_INDEX|INDEX_URL|INDEX|EXTRA_INDEX_URL|INSECURE_HOST)"
)

OnEvent = Callable[[LogEvent | PhaseEvent], Awaitable[None]]


@dataclass(frozen=True)
class WorkerResult:
    """How a worker ended. `error` is None where it ended without a word: then `exit_code` (negative: signal)
    and the last lines of its output, `tail`, tell why."""

    ok: bool
    image_id: str = ""
    digest: str = ""
    pack: str = ""
    error: ErrorView | None = None
    exit_code: int = 0
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """The limits of one run, and who is asked during it.

    `timeout_s` for all of it, `silence_s` without any output. `started` is told pid and start time of the
    process. `guard` is called every few seconds; what it raises ends the worker.
    """

    timeout_s: float
    silence_s: float
    started: Callable[[int, int], Awaitable[object]]
    guard: Callable[[], Awaitable[None]]
    guard_s: float = _GUARD_S


async def run_worker(
    job: WorkerJob,
    on_event: OnEvent,
    watch: Watch,
    *,
    mark: str,
    temporary: Path,
    secrets: Iterable[str] = (),
    command: Sequence[str] = WORKER,
) -> WorkerResult:
    """Run a worker to its end. Whatever happens, also when this is cancelled, none of its processes is left.

    `mark` is put into the environment of all of them, `temporary` is their folder for temporary files.
    `secrets` are taken out of every line. Raises `BuildTimedOut`, and what `on_event` or the guard raise.
    """
    environment = worker_environment(os.environ, mark=mark, temporary=temporary, request=job.request)
    process = await _started(command, environment)
    run = _Run(process, on_event, [*secrets, *job.secret_env.values()])
    try:
        facts = process_facts(process.pid)
        await watch.started(process.pid, facts.start if facts else 0)
        await run.send(job)
        await run.listen(watch)
    finally:
        await to_its_end(run.end())
    return run.outcome()


async def _started(command: Sequence[str], environment: Mapping[str, str]) -> Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Cancelled half-way asyncio would end the leader alone, and wait for what that has started.
        await to_its_end(_end_what_starts(starting))
        raise


async def _end_what_starts(starting: asyncio.Future[Process]) -> None:
    with suppress(OSError):
        process = await starting
        await end_group(process.pid)
        await _pipes_ended(process)


async def _pipes_ended(process: Process) -> None:
    """asyncio takes a process for ended when its pipes have; a full one must be read to its end."""
    _pipe(process.stdin).close()
    with suppress(asyncio.TimeoutError):
        ends = (_to_end(process.stdout), _to_end(process.stderr), process.wait())
        await within(_DRAIN_S, asyncio.gather(*ends))


def worker_environment(
    ours: Mapping[str, str], *, mark: str, temporary: Path, request: str = ""
) -> dict[str, str]:
    """The environment of a worker: what a build needs of `ours`, and nothing else."""
    return {
        "PATH": os.defpath,
        "HOME": "/",
        "LANG": "C.UTF-8",
        **{name: value for name, value in ours.items() if _INHERITED.fullmatch(name)},
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        MARK: mark,
        **({request_ids.VARIABLE: request} if request else {}),
    }


class LineSplitter:
    """Pieces of a stream in, whole lines out; of a line that is too long the beginning, marked as cut."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._dropped = 0

    def feed(self, piece: bytes) -> list[bytes]:
        *ended, rest = piece.split(b"\n")
        lines = []
        for part in ended:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def end(self) -> list[bytes]:
        """What came after the last end of line."""
        return [self._take()] if self._begun else []

    def _add(self, part: bytes) -> None:
        room = self._limit - len(self._begun)
        self._begun += part[:room]
        self._dropped += max(0, len(part) - room)

    def _take(self) -> bytes:
        line = bytes(self._begun)
        if self._dropped:
            line += f" … ({self._dropped} bytes cut)".encode()
        self._begun, self._dropped = bytearray(), 0
        return line


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets, longest first so that no part of one stays."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, "***")
    return text


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await clean-up work completely; a cancellation that comes meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


@dataclass
class _Run:
    """The state of one run: the process, what it said, and when it was last heard."""

    process: Process
    on_event: OnEvent
    secrets: list[str]
    result: ResultEvent | None = None
    heard: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    hearing: int = 0  # pieces that were read and are not passed on in whole
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    async def send(self, job: WorkerJob) -> None:
        """Write the job and leave stdin open. A worker that is gone already says why on its stderr."""
        stdin = _pipe(self.process.stdin)
        with suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(job.model_dump_json().encode() + b"\n")
            await stdin.drain()

    async def listen(self, watch: Watch) -> None:
        """Until the worker has ended and all that it said was read; raises when a limit is reached."""
        reading = asyncio.gather(
            self._read(_pipe(self.process.stdout), self._hear_event),
            self._read(_pipe(self.process.stderr), self._hear_text),
        )
        leaving = asyncio.create_task(self._leave())
        limits = asyncio.create_task(self._keep_limits(watch))
        now = asyncio.get_running_loop().time
        left = now()
        try:
            while not (reading.done() and leaving.done()):
                heard = self.heard
                done, _ = await asyncio.wait(
                    {task for task in (reading, leaving, limits) if not task.done()},
                    # A process that left the group and the session may hold a pipe open.
                    timeout=_DRAIN_S if leaving.done() else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    task.result()
                if leaving in done:
                    left = now()
                behind = (self.hearing or self.heard > heard) and now() < left + _BEHIND_S
                if limits.done() or (leaving.done() and not done and not behind):
                    return
        finally:
            for task in (reading, leaving, limits):
                task.cancel()
            await asyncio.gather(reading, leaving, limits, return_exceptions=True)

    async def end(self) -> None:
        """End the whole group, whatever is left of it."""
        if not await end_group(self.process.pid):
            _log.error("Processes of the worker %s could not be ended.", self.process.pid)
        await _pipes_ended(self.process)

    def outcome(self) -> WorkerResult:
        exit_code = self.process.returncode or 0
        if self.result is None:
            return WorkerResult(False, exit_code=exit_code, tail=tuple(self.tail))
        error = self.result.error
        if error is not None:
            error = ErrorView(
                code=error.code,
                message=redact(error.message, self.secrets),
                next=redact(error.next, self.secrets),
            )
        return WorkerResult(
            self.result.ok,
            image_id=self.result.image_id,
            digest=self.result.digest,
            pack=self.result.pack,
            error=error,
            exit_code=exit_code,
            tail=tuple(self.tail),
        )

    async def _read(self, stream: asyncio.StreamReader, hear: Callable[[bytes], Awaitable[None]]) -> None:
        lines = LineSplitter()
        while piece := await stream.read(_READ_BYTES):
            self.heard = asyncio.get_running_loop().time()
            self.hearing += 1
            for line in lines.feed(piece):
                await hear(line)
            self.hearing -= 1
        for line in lines.end():
            await hear(line)

    async def _hear_event(self, line: bytes) -> None:
        try:
            event = parse_event(line)
        except ValueError:
            return await self._hear_text(line)
        if isinstance(event, ResultEvent):
            self.result = event
        elif isinstance(event, LogEvent):
            await self._say(event.text)
        else:
            await self.on_event(event)

    async def _hear_text(self, line: bytes) -> None:
        await self._say(line.decode("utf-8", "replace"))

    async def _say(self, text: str) -> None:
        text = redact(text, self.secrets)
        self.tail.append(text)
        await self.on_event(LogEvent(text=text))

    async def _leave(self) -> None:
        """The worker ended by itself: what it left running ends too, and so do its pipes."""
        await _gone(self.process.pid)
        await end_group(self.process.pid)

    async def _keep_limits(self, watch: Watch) -> None:
        """Returns when a worker that gave its result does not end; raises for every other limit."""
        now = asyncio.get_running_loop().time
        over = now() + watch.timeout_s
        while True:
            silent = self.heard + (watch.silence_s if self.result is None else _FAREWELL_S)
            await asyncio.sleep(max(0.0, min(watch.guard_s, over - now(), silent - now())))
            if now() >= over:
                raise BuildTimedOut(
                    f"The build took longer than {watch.timeout_s:g} seconds.",
                    "Make it smaller, or ask an administrator to raise `build.timeout_s`.",
                )
            if now() >= self.heard + _FAREWELL_S and self.result is not None:
                return
            if now() >= self.heard + watch.silence_s:
                raise BuildTimedOut(
                    f"The build printed nothing for {watch.silence_s:g} seconds.",
                    "Let the long step print something, or ask an administrator to raise `build.silence_s`.",
                )
            await watch.guard()


async def _to_end(stream: asyncio.StreamReader | None) -> None:
    while await _pipe(stream).read(_READ_BYTES):
        pass


async def _gone(pid: int) -> None:
    """Wait for the end of a process itself: `Process.wait` of some Pythons waits for its pipes as well."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


Pipe = TypeVar("Pipe", asyncio.StreamReader, asyncio.StreamWriter)


def _pipe(pipe: Pipe | None) -> Pipe:
    """asyncio's type says that there may be none; we always ask for all three."""
    if pipe is None:
        raise ValueError("the worker was started without its pipes")
    return pipe
