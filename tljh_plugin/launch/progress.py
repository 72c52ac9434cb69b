"""One bar for build and start: events that any number of readers get from the beginning.

Text only, never HTML: JupyterHub's page puts an `html_message` into the page as it is.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect
from collections.abc import AsyncGenerator
from typing import Any

from .. import request_ids
from ..errors import BinderError
from ..wire import LogLine, Phase

BUILT, PREPARED, STARTED, WAITING = 70, 75, 80, 85
_LIMITS = (BUILT, PREPARED, STARTED, WAITING)
PARTS = ("image", "files", "network", "container", "first answer")

_LONGEST_MESSAGE = 200
# A build prints thousands of lines; whoever wants them all reads the build's own log.
_SECONDS_BETWEEN_LINES = 0.5

_SENTENCES: dict[Phase, str] = {
    "queued": "Waiting for the builder",
    "fetching": "Getting the repository's files",
    "building": "Building the image",
    "checking": "Trying whether the image starts",
    "built": "The image is ready",
    "failed": "The build failed",
    "cancelled": "The build was cancelled",
}


class Progress:
    """Events of one start. `say`, `follow_build` and `fail` add one; `end` ends all readers."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._times: list[float] = []
        self._news = asyncio.Event()
        self._ended = False
        self._percent = 0
        self._build = ""
        self._phase = ""
        self._spoke = 0.0

    def say(self, percent: int, message: str) -> None:
        """An event; the bar never goes back."""
        self._percent = max(self._percent, min(percent, 99))
        event: dict[str, Any] = {"progress": self._percent, "message": message[:_LONGEST_MESSAGE]}
        if self._build:
            event["build"] = self._build
        self._add(event)

    def name_build(self, build_id: str) -> None:
        """From now on events name this build, so that readers can follow its log."""
        self._build = build_id

    def follow_build(self, line: LogLine) -> None:
        """A line of the build's log, if it says something new about how far it is."""
        percent = (line.progress or 0) * BUILT // 100
        sentence, text = _SENTENCES[line.phase], line.text.strip()
        now = asyncio.get_running_loop().time()
        if line.phase != self._phase:
            self._phase = line.phase
            self.say(percent, sentence)
        elif text and now - self._spoke >= _SECONDS_BETWEEN_LINES:
            self._spoke = now
            self.say(percent, f"{sentence}: {text}")
        elif percent > self._percent:
            self.say(percent, sentence)

    def fail(self, error: BinderError) -> None:
        """What went wrong, as a value that programs understand."""
        told = error.to_dict()
        if request_ids.current():
            told["request"] = request_ids.current()
        event = {"progress": self._percent, "message": str(error), "error": told}
        if self._build:
            event["build"] = self._build
        self._add(event)

    def laps(self) -> str:
        """How long each part of the way took so far, for the log."""
        return ", ".join(f"{part} {seconds:.2f} s" for part, seconds in self.parts().items())

    def parts(self) -> dict[str, float]:
        """How long each part of the way took so far: seconds until what was said next."""
        ends = [*self._times[1:], time.monotonic()]
        taken: dict[str, float] = {}
        for event, begun, ended in zip(self._events, self._times, ends, strict=True):
            part = PARTS[bisect(_LIMITS, event["progress"])]
            taken[part] = taken.get(part, 0.0) + ended - begun
        return taken

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._news.set()

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """All events, old and new, until the end."""
        seen = 0
        while True:
            while seen < len(self._events):
                seen += 1
                yield dict(self._events[seen - 1])
            if self._ended:
                return
            await self._news.wait()

    def _add(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        self._times.append(time.monotonic())
        news, self._news = self._news, asyncio.Event()
        news.set()
