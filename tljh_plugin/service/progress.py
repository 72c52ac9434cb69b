"""Build and start of a server as one stream: what the hub says, and the log of the build that it names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

from ..errors import LaunchError
from ..wire import ErrorView, LaunchEvent, LaunchStep, LogLine, Phase

HubEvents = AsyncIterator[Mapping[str, Any]]
Follow = Callable[[str, int], AsyncGenerator[LogLine, None]]

# The hub may know of a failure before the last lines of the log are read.
_LAST_LINES_S = 5.0
# Where the spawner puts the stages on its one bar.
BUILT, _PREPARED = 70, 80

_STEP_OF: dict[Phase, LaunchStep] = {
    "queued": "fetch",
    "fetching": "fetch",
    "building": "build",
    "checking": "check",
    "built": "prepare",
    "failed": "build",
    "cancelled": "build",
}


def position(text: str) -> tuple[str, int]:
    """The build and its line after which a reader goes on, from `build:line`; nothing for anything else."""
    build, _, number = text.rpartition(":")
    is_number = number.isascii() and number.isdecimal() and len(number) < 16
    return (build, int(number)) if build and is_number else ("", 0)


class Merger:
    """Turns events of both sources into `LaunchEvent`s; remembers step, percent and error. Pure."""

    def __init__(self) -> None:
        self.build = ""
        self._step: LaunchStep = "fetch"
        self._progress = 0
        self._error: ErrorView | None = None

    def of_hub(self, event: Mapping[str, Any]) -> LaunchEvent:
        """An event of the hub's progress API, whose keys `build` and `error` are our spawner's."""
        message = str(event.get("message", ""))
        self.build = str(event.get("build") or self.build)
        if isinstance(event.get("error"), Mapping):
            self._error = ErrorView.model_validate(event["error"])
        if event.get("ready"):
            return LaunchEvent(
                type="ready",
                progress=100,
                step="start",
                build=self.build,
                message=message,
                url=str(event.get("url", "")),
            )
        if event.get("failed"):
            return self.failed(self._error or _explain(message))
        self._progress = max(self._progress, min(99, max(0, int(event.get("progress") or 0))))
        if self._progress >= _PREPARED:
            self._step = "start"
        elif self._progress >= BUILT:
            self._step = "prepare"
        return self._event("progress", message=message)

    def of_log(self, line: LogLine) -> LaunchEvent:
        """A line of the build's log."""
        if line.progress is not None:
            self._progress = max(self._progress, line.progress * BUILT // 100)
        if self._progress < BUILT and line.phase not in ("failed", "cancelled"):
            self._step = _STEP_OF[line.phase]
        if line.error is not None:
            self._error = line.error
        return self._event("log", line=line)

    def failed(self, error: ErrorView) -> LaunchEvent:
        """The end, without a server."""
        return self._event("failed", error=error, message=error.message)

    def _event(self, kind: Any, **values: Any) -> LaunchEvent:
        return LaunchEvent(type=kind, progress=self._progress, step=self._step, build=self.build, **values)


async def merge(
    hub_events: HubEvents, follow: Follow, after: tuple[str, int] = ("", 0)
) -> AsyncGenerator[LaunchEvent, None]:
    """One stream of both, ended by `ready` or `failed`, or without either if the hub's stream ended early.

    `after` is the build and the number of the last line that the reader has. Closing the generator ends the
    requests upstream.
    """
    merger = Merger()
    events: asyncio.Queue[LaunchEvent | BaseException | None] = asyncio.Queue(maxsize=200)
    tasks: list[asyncio.Task[None]] = []

    async def read_log(build: str) -> None:
        async with aclosing(follow(build, after[1] if after[0] == build else 0)) as lines:
            async for line in lines:
                await events.put(merger.of_log(line))

    async def read_hub() -> None:
        try:
            async for said in hub_events:
                event = merger.of_hub(said)
                if event.build and len(tasks) == 1:
                    tasks.append(asyncio.create_task(read_log(event.build)))
                if event.type == "failed" and len(tasks) > 1:
                    await asyncio.wait({tasks[1]}, timeout=_LAST_LINES_S)
                    event = merger.of_hub(said)  # the log's last line may have explained it
                await events.put(event)
            await events.put(None)
        except Exception as error:
            await events.put(error)

    tasks.append(asyncio.create_task(read_hub()))
    try:
        while True:
            event = await events.get()
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            yield event
            if event.type in ("ready", "failed"):
                return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _explain(message: str) -> ErrorView:
    """What the hub alone knows of a failure."""
    text = message.removeprefix("Spawn failed").removeprefix(":").strip()
    error = LaunchError(text or "The server did not start.", "Try again, or start it with other options.")
    return ErrorView(**error.to_dict())
