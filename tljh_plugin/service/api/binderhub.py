"""`GET build/<provider>/<spec>`: BinderHub's event stream, for programs that were written for it.

Its form is BinderHub's (`binderhub/builder.py`): `data:` with `phase` and `message`, an error as an event
with the phase `failed`, and a stream that stays open for a while at its end, since its clients begin anew
when it is closed. For tokens only: a GET starts something here, and any page of the web could send a browser
to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qs, urljoin

from ...errors import BinderError, Forbidden, UnexpectedFailure, from_dict
from ...launch.options import LaunchOptions, parse
from ...source.spec import LaunchLink, RepoSpec
from ...wire import BuildView, ErrorView, LaunchEvent, LogLine
from ..events import Event, StreamHandler

_HOLD_S = 60.0
_PHASES = {"fetch": "fetching", "build": "building", "check": "building"}

Told = dict[str, Any]


class BinderHubStream(StreamHandler):
    async def get(self, path: str) -> None:
        # A header alone proves nothing: browsers send `Basic …` by themselves, and with one that the hub does
        # not take, the cookie says who asks. JupyterHub marks a request for which a token did.
        by_token = getattr(self, "_token_authenticated", False)
        if not by_token or not self.request.headers.get("Authorization"):
            raise Forbidden(
                "BinderHub's event stream starts servers: it is for tokens, not for browsers.",
                "Send a JupyterHub token (`Authorization: token …`), or open the address with `/v2/`.",
            )
        await self.stream(self._events())

    async def _events(self) -> AsyncGenerator[Event, None]:
        try:
            link = self._link()
            told = self._build(link.spec) if self.flag("build_only") else self._launch(link)
            async with aclosing(told) as events:
                async for each in events:
                    yield _event(each)
        except BinderError as error:
            yield _event(_failed(error))
        await asyncio.sleep(_HOLD_S)

    def _link(self) -> LaunchLink:
        """The link as it came: its escapes still tell a `/` in a name from one between names."""
        path = self.request.path.partition("/build/")[2]
        return LaunchLink.from_request(path, parse_qs(self.request.query))

    async def _build(self, spec: RepoSpec) -> AsyncGenerator[Told, None]:
        pinned = await self.context.lookups.pin_spec(self.person, spec)
        build = await self.context.queue.request(self.person, pinned)
        if build.state == "built":
            yield _built("ready", build, "Done! Found built image")
            return
        yield {"phase": "waiting", "message": "Waiting for the build.\n"}
        async for line in self.context.queue.follow(build.id, 0, self.person):
            if line.error is not None:
                raise _raised(line.error)
            yield _line(line)
        build = await self.context.queue.get(build.id, self.person)
        if build.state != "built":
            raise UnexpectedFailure(f"The build {build.id} ended as {build.state}.", "Ask for it again.")
        yield _built("ready", build, "Done! Image built")

    async def _launch(self, link: LaunchLink) -> AsyncGenerator[Told, None]:
        token = self.door.token(self)
        launches = self.context.launches
        started = await launches.launch(self.person, token, _options(link), link.server)
        server = await launches.server(self.person, token, started.server)
        commit = server.commit or link.spec.ref
        phase = ""
        async with aclosing(launches.events(self.person, token, started.server)) as events:
            async for event in events:
                if event.error is not None:
                    raise _raised(event.error)
                if event.type == "ready":
                    where = urljoin(self.hub_address, server.url)
                    yield {**self._facts(link.spec, commit), **_ready(where)}
                    return
                if event.step in ("prepare", "start") and phase != "launching":
                    phase = "launching"
                    yield {"phase": "built", "message": "Built image, launching...\n"}
                yield _progress(event)

    def _facts(self, spec: RepoSpec, commit: str) -> Told:
        """What BinderHub says of a server besides its address (binderhub/launcher.py)."""
        pinned = spec.with_ref(commit)
        return {
            "repo_url": spec.clone_url,
            "binder_ref_url": pinned.page_url,
            "binder_launch_host": self.hub_address,
            "binder_request": f"v2/{spec.path}",
            "binder_persistent_request": f"v2/{pinned.path}",
        }


def _options(link: LaunchLink) -> LaunchOptions:
    given = {
        "repository": link.spec.path,
        "path": link.open_path,
        "storage": link.storage,
        "project": link.project,
        "profile": link.profile,
    }
    return parse({name: value for name, value in given.items() if value})


def _event(told: Told) -> Event:
    return Event(json.dumps(told))


def _failed(error: BinderError) -> Told:
    return {"phase": "failed", "message": f"{error}\n", "status_code": error.http_status, "code": error.code}


def _built(phase: str, build: BuildView, message: str) -> Told:
    return {"phase": phase, "imageName": build.image_name, "message": f"{message}\n"}


def _line(line: LogLine) -> Told:
    phase = "fetching" if line.phase == "fetching" else "waiting" if line.phase == "queued" else "building"
    return {"phase": phase, "message": f"{line.text}\n"}


def _progress(event: LaunchEvent) -> Told:
    if event.line is not None:
        return _line(event.line)
    return {"phase": _PHASES.get(event.step, "launching"), "message": f"{event.message}\n"}


def _ready(url: str) -> Told:
    # BinderHub gives a token of the server; here the one that asked opens it.
    return {"phase": "ready", "message": f"server running at {url}\n", "url": url, "token": ""}


def _raised(error: ErrorView) -> BinderError:
    return from_dict({"code": error.code, "message": error.message, "next": error.next})
