"""The log of one build: a file of numbered JSON lines, written once and followed by any number of readers.

Replay and live are one code path: a reader reads the file from the line after the last one it saw, and when
it is at the end waits for a change. Readers have no queue, so a slow one loses nothing and holds nobody up.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import ValidationError

from ..errors import DiskLow
from ..store.rows import utc_now
from ..wire import ErrorView, LogLine, Phase
from .run import to_its_end

FINAL_PHASES = frozenset({"built", "failed", "cancelled"})
MAX_TEXT = 8 * 1024
_READ_BYTES = 256 * 1024
_HIGH_WATER_LINES = 1000

# Control sequences and titles (ECMA-48 CSI and OSC), other escapes, control characters but the tab, and what
# turns the direction of a text round (UAX 9), so that it reads as something else.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """One printable line: what a terminal would obey is taken out, and of an overwritten line the last state
    is kept; longer than 8192 characters is cut."""
    text = _ESCAPES.sub("", text).rstrip("\r\n")
    text = _CONTROLS.sub("", text.rsplit("\r", 1)[-1])
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} … ({len(text)} characters, cut)"


class BuildLog:
    """`path` need not exist. To write: `await open()`, `append` (never waits), `await drain()` now and then,
    `await close()`. To read: `follow`, with or without a writer in this object. With `live` readers wait
    for a writer that is still to come."""

    def __init__(self, path: Path, *, limit_bytes: int = 0, live: bool = False) -> None:
        self.path = path
        self.complete = False  # a reader has seen the final line
        self._final = False  # the final line was handed in
        self._limit = limit_bytes
        self._last = 0
        self._size = 0
        self._truncated = False
        self._writing = live
        self._descriptor: int | None = None
        self._pending: list[bytes] = []
        self._flusher: asyncio.Task[OSError | None] | None = None
        self._changed = asyncio.Event()

    @property
    def last(self) -> int:
        """The number of the last line."""
        return self._last

    # -- writing --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open for writing, readable by the owner alone; what a crash has torn is cut off. Can be called
        again."""
        if self._descriptor is None:
            # Also when cancelled: nobody would close it, and the final line would be lost.
            await to_its_end(self._open())

    async def _open(self) -> None:
        self._descriptor, self._last, self._size, self._final = await asyncio.to_thread(_reopen, self.path)
        self._writing = True

    def append(
        self,
        phase: Phase,
        text: str = "",
        *,
        progress: int | None = None,
        error: ErrorView | None = None,
        image_id: str = "",
    ) -> None:
        """Add a line; above the size limit only those that say more than a text, after the final one none."""
        if self._final or self._descriptor is None:
            return
        text = clean(text)
        self._final = phase in FINAL_PHASES
        only_text = not self._final and progress is None
        if only_text and self._truncated:
            return
        line = self._encode(phase, text, progress, error, image_id)
        if only_text and self._limit and self._size + len(line) > self._limit:
            self._truncated = True
            line = self._encode(
                phase,
                f"The log is longer than {self._limit} bytes: what follows is left out.",
                None,
                None,
                "",
            )
        self._last += 1
        self._size += len(line)
        self._pending.append(line)
        self._ensure_flusher()

    async def drain(self, *, everything: bool = False) -> None:
        """Wait while much (with `everything`: anything) is not written yet.

        Raises `DiskLow` if the log cannot be written; the lines are kept and tried again.
        """
        while len(self._pending) > (0 if everything else _HIGH_WATER_LINES):
            flusher = self._ensure_flusher()
            # Waited for, not awaited: who drains may be cancelled, a write that has begun may not.
            await asyncio.wait({flusher})
            error = flusher.result()
            if error is not None:
                raise DiskLow(
                    f"The log {self.path} cannot be written: {error.strerror}.",
                    "Free some disk and try again.",
                ) from error

    async def close(self) -> None:
        """Write what is left and end the readers; can be called again. Raises `DiskLow` as `drain` does."""
        if not self._writing:
            return
        try:
            await self.drain(everything=True)
        finally:
            self._writing = False
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                await asyncio.to_thread(_sync_and_close, descriptor)
            self._notify()

    def _encode(
        self, phase: Phase, text: str, progress: int | None, error: ErrorView | None, image_id: str
    ) -> bytes:
        line = LogLine(
            n=self._last + 1,
            time=utc_now(),
            phase=phase,
            text=text,
            progress=progress,
            error=error,
            image_id=image_id,
        )
        return line.model_dump_json().encode("utf-8") + b"\n"

    def _ensure_flusher(self) -> asyncio.Task[OSError | None]:
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return self._flusher

    async def _flush(self) -> OSError | None:
        """Write until nothing is left; lines that could not be written stay in `_pending`."""
        while self._pending and self._descriptor is not None:
            batch = list(self._pending)
            try:
                await asyncio.to_thread(_write_whole, self._descriptor, b"".join(batch))
            except OSError as error:
                return error
            del self._pending[: len(batch)]
            self._notify()
        return None

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    # -- reading --------------------------------------------------------------------------------------

    async def follow(self, after: int = 0) -> AsyncIterator[LogLine]:
        """The lines after number `after`, those that come included; ends after the final line, and where
        nobody writes (any more) at the end of the file."""
        offset = number = 0
        while True:
            changed, writing = self._changed, self._writing
            raw, offset = await asyncio.to_thread(_read_lines, self.path, offset)
            for text in raw:
                number += 1
                line = _parse(text, number)
                if line is None:
                    return
                if number > after:
                    yield line
                if line.phase in FINAL_PHASES:
                    self.complete = True
                    return
            if raw:
                continue
            if not writing:
                return
            await changed.wait()


# -- the file, in a thread ----------------------------------------------------------------------------


def _reopen(path: Path) -> tuple[int, int, int, bool]:
    """Descriptor, last number, size and whether the last line is final, after cutting what is torn."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    last = size = 0
    final = False
    with open(path, "rb") as file:
        for raw in file:
            line = _parse(raw[:-1], last + 1) if raw.endswith(b"\n") else None
            if line is None:
                break
            last, size, final = line.n, size + len(raw), line.phase in FINAL_PHASES
    os.ftruncate(descriptor, size)
    return descriptor, last, size, final


def _parse(raw: bytes, number: int) -> LogLine | None:
    """None if the line is not whole or not the one that comes next."""
    try:
        line = LogLine.model_validate_json(raw)
    except ValidationError:
        return None
    return line if line.n == number else None


def _read_lines(path: Path, offset: int) -> tuple[list[bytes], int]:
    """Whole lines from `offset` on, a piece of the file at a time, and where the next piece begins."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            piece = file.read(_READ_BYTES)
    except FileNotFoundError:
        return [], offset
    end = piece.rfind(b"\n") + 1
    return piece[:end].split(b"\n")[:-1], offset + end


def _write_whole(descriptor: int, data: bytes) -> None:
    """All of it or nothing: half a line would spoil what is written after it."""
    size = os.fstat(descriptor).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
