"""`POST builds`, `GET builds`, `GET|DELETE builds/{id}`, `POST builds/{id}/retry`, its log and its events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from pydantic import BaseModel, ConfigDict

from ...build.log import BuildLog
from ...settings import Settings
from ...wire import BuildRequest, BuildView, Credential, LogLine
from ..events import Event, StreamHandler
from ..handler import ApiHandler

_FLUSH_LINES = 500


class ResolveRequest(BaseModel):
    """`POST resolve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: str  #: a launch link, an address, or what a person types
    commit: str = ""  #: full commit instead of what the ref points to
    credential: Credential | None = None  #: of a private repository


class PrivateBuildRequest(BuildRequest):
    """`POST builds`, with what a private repository is read with."""

    credential: Credential | None = None  #: of a private repository


class RetryRequest(BaseModel):
    """`POST builds/{build}/retry`; the body may be missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    credential: Credential | None = None  #: of a private repository


class Resolve(ApiHandler):
    async def post(self) -> None:
        """What a text or link means: repository, ref, commit, whether the image is ready. Answers
        `ResolveView`.
        """
        asked = self.body(ResolveRequest)
        self.answer(
            await self.context.lookups.resolve(self.person, asked.spec, asked.commit, asked.credential)
        )


class Builds(ApiHandler):
    async def get(self) -> None:
        """The person's builds, newest first; `?everyone=1`: of all people, for administrators. Answers a list
        of `BuildView`.
        """
        everyone = self.flag("everyone")
        if everyone:
            self.only_administrators()
        builds = await self.context.queue.list(self.person)
        mine = self.person.name
        self.answer([each for each in builds if everyone or each.requested_by == mine])

    async def post(self) -> None:
        """Start a build, join an equal one, or learn that the image is there (`hit`); 202 while it goes on.
        Answers `BuildView`.
        """
        asked = self.body(PrivateBuildRequest)
        pinned = await self.context.lookups.pin(self.person, asked.spec, asked.commit, asked.credential)
        build = await self.context.queue.request(
            self.person, pinned, rebuild=asked.rebuild, no_cache=asked.no_cache
        )
        self.answer(build, status=status_of(build))


class OneBuild(ApiHandler):
    async def get(self, build_id: str) -> None:
        """One build. Answers `BuildView`."""
        self.answer(await self.context.queue.get(build_id, self.person))

    async def delete(self, build_id: str) -> None:
        """Withdraw from a build; the last who wanted it, or an administrator, cancels it. Answers
        `BuildView`.
        """
        self.answer(await self.context.queue.cancel(build_id, self.person))


class RetryBuild(ApiHandler):
    async def post(self, build_id: str) -> None:
        """Build once more what failed or was cancelled, at the same commit; the body may be missing. Answers
        `BuildView`.
        """
        asked = self.body(RetryRequest) if self.request.body else RetryRequest()
        build = await self.context.again.retry(self.person, build_id, asked.credential)
        self.answer(build, status=status_of(build))


def status_of(build: BuildView) -> int:
    """200 for what is there or over, 202 for what is going on."""
    return 200 if build.state in ("built", "failed", "cancelled") else 202


class BuildLogLines(StreamHandler):
    """The log so far; with `?text=1` as text. Sent piece by piece: a log may have many megabytes."""

    async def get(self, build_id: str) -> None:
        """The log so far, after line `?after=`; `?text=1`: as text. Answers a list of `LogLine`."""
        build = await self.context.queue.get(build_id, self.person)
        as_text = self.flag("text")
        kind = "text/plain" if as_text else "application/json"
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        first = True
        async for line in log_so_far(self.context.settings, build.id, self.last_number):
            if as_text:
                self.write(f"{line.text}\n")
            else:
                self.write(("[" if first else ",") + line.model_dump_json())
            first = False
            if line.n % _FLUSH_LINES == 0:
                await self.flush()
        self.finish("" if as_text else "[]" if first else "]")


def log_so_far(settings: Settings, build_id: str, after: int = 0) -> AsyncIterator[LogLine]:
    """The lines that are written by now, of a build that somebody may see."""
    return BuildLog(settings.log_dir / f"{build_id}.jsonl").follow(after)


class BuildEvents(StreamHandler):
    async def get(self, build_id: str) -> None:
        """The log replayed after line `?after=`, and then live, as [server-sent events](api.md#events). A
        person follows 20 builds and starts at a time, then `too-many-streams`. Each is a `LogLine`.
        """
        build = await self.context.queue.get(build_id, self.person)
        await self.stream(self._events(build, self.last_number))

    async def _events(self, build: BuildView, after: int) -> AsyncGenerator[Event, None]:
        async for line in self.context.queue.follow(build.id, after):
            yield of_line(line)


def of_line(line: LogLine) -> Event:
    """A line of a log as an event that can be resumed after."""
    return Event(line.model_dump_json(), id=str(line.n))
