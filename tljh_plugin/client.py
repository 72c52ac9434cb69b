"""The typed client of our own API, used by the spawner and the command line.

Over the Unix socket, which only root (on a desktop: the person) can open, it speaks for the person it is
given; over HTTP it speaks for the owner of its token. Every failure is an error of `errors`: what the service
answered becomes its own class again, and a service that cannot be reached is `ServiceDown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import TypeAdapter, ValidationError

from . import request_ids
from .errors import BinderError, ServiceDown, from_dict
from .plain_http import verify_for
from .wire import (
    AccountBy,
    AccountingView,
    AuditView,
    BuildRequest,
    BuildView,
    Credential,
    DeletedView,
    DiskHistoryView,
    DiskView,
    DoctorView,
    HealthView,
    ImageChange,
    ImageView,
    LaunchEvent,
    LaunchView,
    LogLine,
    MirrorView,
    MountView,
    NewerView,
    Person,
    Prepared,
    PrepareRequest,
    ProjectView,
    ProposalView,
    RescanView,
    ResolveView,
    RetentionView,
    RunView,
    StorageView,
    Visibility,
    Wire,
)

PERSON_HEADER = "Littlest-Binder-Person"
API = "api/v1/"

_NO_CONTENT = 204

_CONNECT_S = 5.0
_ANSWER_S = 60.0
_PREPARE_S = 3600.0  # filling a project copies up to `storage.max_fill_bytes`
_MOVE_S = 1800.0  # Docker packs and unpacks large layers without a word
_SILENCE_S = 35.0  # two keep-alive comments are missing: the connection is dead
# JupyterHub looks every 30 s whether a service that it manages still runs.
_PATIENCE_S = 180.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_RUN_PAUSE_S = 0.5

_View = TypeVar("_View", bound=Wire)


class _NothingLeft(Exception):
    """A stream is over and all of it was seen."""


@dataclass(frozen=True)
class FoundImages:
    """Images of one page, and how many were found on all pages."""

    images: tuple[ImageView, ...]
    found: int


class ServiceClient:
    """One client of the service; close it with `aclose()` or use it as an async context manager.

    Give `socket` and `person`, or `url` (up to and with `/services/binder/`) and `token`. `token` together
    with `socket` lets `launch` act with that person's own hub token.
    """

    def __init__(
        self,
        *,
        socket: Path | None = None,
        person: Person | None = None,
        url: str = "",
        token: str = "",
        timeout_s: float = _ANSWER_S,
    ) -> None:
        if (socket is None) == (not url):
            raise ValueError("give either `socket` or `url`")
        headers: dict[str, str] = {}
        if person is not None:
            headers[PERSON_HEADER] = json.dumps(person.model_dump(), ensure_ascii=True)
        if token:
            headers["Authorization"] = f"token {token}"
        self._where = str(socket) if socket is not None else url
        self._managed = socket is not None
        self._timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
        verify = verify_for(url)
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=verify, uds=str(socket)) if socket else None,
            verify=verify,
            base_url="http://binder/" if socket is not None else url.rstrip("/") + "/",
            headers=headers,
            timeout=self._timeout,
            event_hooks={"request": [_name_request]},
            trust_env=False,  # our own service is never behind a proxy of the environment
        )

    async def __aenter__(self) -> ServiceClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # -- calls ----------------------------------------------------------------------------------------

    async def health(self) -> HealthView:
        """Whether all that the service needs is well; one that says it is not has answered as well."""
        with self._failures():
            answer = await self._http.get(f"{API}health", timeout=self._timeout)
        if answer.is_error and not _says_health(answer):
            raise self._error(answer.status_code, answer.content)
        return self._parse(answer, HealthView)

    async def resolve(self, text: str, commit: str = "", credential: Credential | None = None) -> ResolveView:
        """What a link or a typed text means. With a full `commit` no network is needed.

        `credential` is for a private repository, here as in `build` and `launch`; the service holds it until
        the build has ended.
        """
        body = {"spec": text, "commit": commit, **_plain(credential)}
        return await self._send("POST", "resolve", ResolveView, body)

    async def build(self, request: BuildRequest, credential: Credential | None = None) -> BuildView:
        """Start a build, join an equal one, or learn that the image is there (`hit`)."""
        return await self._send("POST", "builds", BuildView, {**request.model_dump(), **_plain(credential)})

    async def get_build(self, build_id: str) -> BuildView:
        """One build."""
        return await self._get(f"builds/{_segment(build_id)}", BuildView)

    async def builds(self, *, everyone: bool = False) -> list[BuildView]:
        """The person's builds, newest first; with `everyone` those of all (administrators)."""
        return await self._list("builds", BuildView, {"everyone": "1"} if everyone else {})

    async def log(self, build_id: str, after: int = 0) -> list[LogLine]:
        """The log of a build so far, from the line after number `after`."""
        return await self._list(f"builds/{_segment(build_id)}/log", LogLine, {"after": str(after)})

    async def cancel(self, build_id: str) -> BuildView:
        """Cancel a build; a finished one stays as it is."""
        return await self._send("DELETE", f"builds/{_segment(build_id)}", BuildView)

    async def retry(self, build_id: str, credential: Credential | None = None) -> BuildView:
        """Build once more what failed or was cancelled, at the same commit."""
        return await self._send("POST", f"builds/{_segment(build_id)}/retry", BuildView, _plain(credential))

    async def rebuild_image(self, image_id: str, *, no_cache: bool = False) -> BuildView:
        """Build an image anew at its commit; with `no_cache` every step is run again."""
        path = f"images/{_segment(image_id)}/rebuild"
        return await self._send("POST", path, BuildView, {"no_cache": no_cache})

    async def rescan(self) -> RescanView:
        """Find images of ours again that are not in the list; administrators."""
        return await self._send("POST", "images/rescan", RescanView, timeout_s=_PREPARE_S)

    async def adoptable(self) -> list[ProposalView]:
        """The images of Docker that could be adopted; administrators."""
        return await self._list("images/adoptable", ProposalView)

    async def adopt(
        self,
        image: str,
        *,
        title: str = "",
        visibility: Visibility = "everyone",
        groups: Sequence[str] = (),
    ) -> ImageView:
        """Take an image that was built elsewhere into the list, after the start check; administrators."""
        body = {"image": image, "title": title, "visibility": visibility, "groups": list(groups)}
        return await self._send("POST", "images/adopt", ImageView, body, timeout_s=_PREPARE_S)

    async def look_for_newer(self, image_ids: Sequence[str] = (), *, build: bool = False) -> list[NewerView]:
        """Whether the refs of these images, or of all, point further now; `build` builds what is newer."""
        body = {"images": list(image_ids), "build": build}
        answer = await self._request("POST", "images/newer", body, timeout_s=_PREPARE_S)
        return self._parse_list(answer, NewerView)

    async def export_image(self, image_id: str) -> AsyncGenerator[bytes, None]:
        """The file of an image for another machine, piece by piece; administrators.

        Raises `ServiceDown` if it breaks off.
        """
        timeout = httpx.Timeout(_MOVE_S, connect=_CONNECT_S)
        path = f"{API}images/{_segment(image_id)}/export"
        with self._failures():
            async with self._http.stream("GET", path, timeout=timeout) as answer:
                if answer.is_error:
                    raise self._error(answer.status_code, await answer.aread())
                async for piece in answer.aiter_bytes():
                    yield piece

    async def import_image(
        self,
        file: AsyncIterator[bytes],
        *,
        trust: bool = False,
        title: str = "",
        visibility: Visibility | None = None,
        groups: Sequence[str] = (),
    ) -> ImageView:
        """Bring an exported image into the list, after the start check; administrators.

        `trust` is their word for one that another installation built.
        """
        query = [("trust", "1" if trust else "0"), ("title", title), *(("group", each) for each in groups)]
        query += [("visibility", visibility)] if visibility else []
        timeout = httpx.Timeout(_MOVE_S, connect=_CONNECT_S)
        with self._failures():
            answer = await self._http.post(
                f"{API}images/import?{urlencode(query)}",
                content=file,
                headers={"Content-Type": "application/x-tar"},
                timeout=timeout,
            )
        if answer.is_error:
            raise self._error(answer.status_code, answer.content)
        return self._parse(answer, ImageView)

    async def images(self) -> list[ImageView]:
        """The images that the person may see."""
        return await self._list("images", ImageView)

    async def search_images(
        self, text: str = "", *, show: str = "", sort: str = "", page: int = 0, limit: int = 0
    ) -> FoundImages:
        """Those of them that a search means, in an order, at most `limit` (0: all); see the API's reference.

        Raises `InvalidRequest` naming what has no meaning.
        """
        given = {"q": text, "show": show, "sort": sort, "page": str(page or ""), "limit": str(limit or "")}
        query = {name: value for name, value in given.items() if value}
        answer = await self._request("GET", "images", query=query)
        images = self._parse_list(answer, ImageView)
        return FoundImages(tuple(images), int(answer.headers.get("X-Total-Count", len(images))))

    async def image(self, image_id: str) -> ImageView:
        """One image by its id."""
        return await self._get(f"images/{_segment(image_id)}", ImageView)

    async def delete_images(
        self, ids: Sequence[str], mode: Literal["evict", "erase"] = "erase", *, dry_run: bool = False
    ) -> DeletedView:
        """Delete images, or only learn what that would do.

        A run that takes longer than the answer is not finished in it: see `follow_run`.
        """
        query = urlencode([*(("id", each) for each in ids), ("mode", mode), ("dry_run", int(dry_run))])
        return await self._send("DELETE", f"images?{query}", DeletedView)

    async def retention(
        self, *, dry_run: bool = False, policy: Mapping[str, Any] | None = None
    ) -> RetentionView:
        """Let images go by the policy, or only learn which (`policy`: with other values of its keys);
        administrators."""
        body = {"dry_run": dry_run, "policy": dict(policy or {})}
        return await self._send("POST", "retention", RetentionView, body)

    async def runs(self) -> list[RunView]:
        """What was deleted, by whom, and what it brought, newest first; administrators."""
        return await self._list("runs", RunView)

    async def get_run(self, run_id: str) -> RunView:
        """One run, as far as it is."""
        return await self._get(f"runs/{_segment(run_id)}", RunView)

    async def stop_run(self, run_id: str) -> RunView:
        """End a run after the image that it is at."""
        return await self._send("DELETE", f"runs/{_segment(run_id)}", RunView)

    async def follow_run(self, run_id: str) -> AsyncGenerator[RunView, None]:
        """A run whenever something has become of another image, last of all as it ended."""
        seen = -1
        while True:
            run = await self.get_run(run_id)
            if len(run.results) != seen or run.finished:
                seen = len(run.results)
                yield run
            if run.finished:
                return
            await asyncio.sleep(_RUN_PAUSE_S)

    async def share_image(
        self, image_id: str, visibility: Visibility, groups: Sequence[str] = ()
    ) -> ImageView:
        """Change who may use an image: its owner alone, groups, or everyone."""
        return await self.change_image(image_id, ImageChange(visibility=visibility, groups=tuple(groups)))

    async def change_image(self, image_id: str, change: ImageChange) -> ImageView:
        """Change what is said of an image, its pin, who may use it, or whether it is still started."""
        body = change.model_dump(exclude_none=True)
        return await self._send("PATCH", f"images/{_segment(image_id)}", ImageView, body)

    async def projects(self) -> list[ProjectView]:
        """The person's projects."""
        return await self._list("projects", ProjectView)

    async def deleted_projects(self) -> list[ProjectView]:
        """The person's deleted projects that can be brought back."""
        found = await self._list("projects", ProjectView, {"deleted": "1"})
        return [each for each in found if each.archived]

    async def delete_project(self, project: str) -> ProjectView:
        """Delete a project; what it is called among the deleted ones."""
        return await self._send("DELETE", f"projects/{_segment(project)}", ProjectView)

    async def remove_project(self, project: str) -> None:
        """Remove a deleted project for good."""
        await self._request("DELETE", f"projects/{_segment(project)}")

    async def undelete_project(self, project: str) -> ProjectView:
        """Bring a deleted project back."""
        return await self._send("POST", f"projects/{_segment(project)}/undelete", ProjectView)

    async def rename_project(self, project: str, title: str) -> ProjectView:
        """Give a project a title; an empty one takes it away."""
        return await self._send("PATCH", f"projects/{_segment(project)}", ProjectView, {"title": title})

    async def storage(self) -> StorageView:
        """What the person keeps in all, against the limit."""
        return await self._get("storage", StorageView)

    async def adopt_storage(self) -> StorageView:
        """Say that the folder which `storage.root` names is new; administrators."""
        return await self._send("POST", "storage/adopt", StorageView)

    async def audit(self, *, limit: int = 200, before: int = 0, **fields: str) -> list[AuditView]:
        """Who did what, newest first; `fields`: `who`, `what`, `thing`, `since`, `until`; administrators."""
        query = {**fields, "limit": str(limit), "before": str(before)}
        return await self._list("audit", AuditView, {name: value for name, value in query.items() if value})

    async def accounting(self, by: AccountBy = "person", since: str = "", until: str = "") -> AccountingView:
        """Who used how much; without `since` from the beginning of the month; administrators."""
        query = {"by": by, "since": since, "until": until}
        answer = await self._request(
            "GET", "accounting", query={name: value for name, value in query.items() if value}
        )
        return self._parse(answer, AccountingView)

    async def as_table(self, path: str, query: Mapping[str, str]) -> str:
        """`audit` or `accounting` as CSV; administrators."""
        answer = await self._request("GET", path, query={**query, "format": "csv"})
        return answer.text

    async def disk(self) -> DiskView:
        """Who occupies the disk, as it was measured last; administrators."""
        return await self._get("disk", DiskView)

    async def disk_history(self, days: float = 7.0) -> DiskHistoryView:
        """What the filesystems held in the last days; administrators."""
        answer = await self._request("GET", "disk/history", query={"days": f"{days:g}"})
        return self._parse(answer, DiskHistoryView)

    async def doctor(self) -> DoctorView:
        """What is wrong with the installation, as the service sees it; administrators."""
        return await self._get("doctor", DoctorView)

    async def mirrors(self) -> list[MirrorView]:
        """The stored copies of repositories, the one that is unused for longest first; administrators."""
        return await self._list("mirrors", MirrorView)

    async def remove_mirrors(self) -> list[MirrorView]:
        """Remove those that no image needs; what went."""
        return self._parse_list(await self._request("DELETE", "mirrors"), MirrorView)

    async def mounts(self) -> list[MountView]:
        """The folders of the machine that the person may have in a server."""
        return await self._list("mounts", MountView)

    async def prepare(self, request: PrepareRequest) -> Prepared:
        """Everything that a container needs besides its image; takes a lease. Socket only."""
        return await self._send("POST", "prepare", Prepared, request.model_dump(), timeout_s=_PREPARE_S)

    async def release(self, lease: str, ok: bool) -> None:
        """Give a lease back; `ok` tells whether the server came up. Socket only."""
        await self._request("POST", "release", {"lease": lease, "ok": ok})

    async def launch(
        self,
        options: Mapping[str, Any],
        *,
        server: str = "",
        restart: bool = False,
        credential: Credential | None = None,
    ) -> LaunchView:
        """Ask the hub to start a server with these launch options, as the owner of the token.

        Raises `ServerExists` if a server of that name has other options and `restart` is not set.
        """
        body = {**options, "server": server, "restart": restart, **_plain(credential)}
        return await self._send("POST", "launches", LaunchView, body)

    async def events(
        self, build_id: str, after: int = 0, *, patience_s: float = _PATIENCE_S
    ) -> AsyncGenerator[LogLine, None]:
        """The log of a build, replayed after line `after` and then live, until the build ends.

        Reconnects by itself from the last line it saw; raises `ServiceDown` when the service could not be
        reached for `patience_s` seconds.
        """
        path = f"builds/{_segment(build_id)}/events"
        start = str(after) if after else ""
        lines = self._follow(path, LogLine, lambda line: str(line.n), start, patience_s)
        async with aclosing(lines):
            async for line in lines:
                yield line
                if line.phase in ("built", "failed", "cancelled"):
                    return

    async def launch_events(
        self, server: str, *, patience_s: float = _PATIENCE_S
    ) -> AsyncGenerator[LaunchEvent, None]:
        """Build and start of a server as one stream, until it is ready or has failed."""
        path = f"launches/{_segment(server)}/events"
        events = self._follow(path, LaunchEvent, _launch_position, "", patience_s)
        async with aclosing(events):
            async for event in events:
                yield event
                if event.type in ("ready", "failed"):
                    return

    # -- requests -------------------------------------------------------------------------------------

    async def _get(self, path: str, view: type[_View]) -> _View:
        return self._parse(await self._request("GET", path), view)

    async def _send(
        self,
        method: str,
        path: str,
        view: type[_View],
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> _View:
        return self._parse(await self._request(method, path, body, timeout_s=timeout_s), view)

    async def _list(
        self, path: str, view: type[_View], query: Mapping[str, str] | None = None
    ) -> list[_View]:
        answer = await self._request("GET", path, query=query)
        return self._parse_list(answer, view)

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        timeout = self._timeout if timeout_s is None else httpx.Timeout(timeout_s, connect=_CONNECT_S)
        with self._failures():
            answer = await self._http.request(
                method, API + path, json=body, params=query or None, timeout=timeout
            )
        if answer.is_error:
            raise self._error(answer.status_code, answer.content)
        return answer

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ServiceDown(
                f"The Littlest Binder's service at {self._where} did not answer in time "
                f"({type(error).__name__}).",
                "Try again; if it stays so, look at the service's log.",
            ) from None
        except httpx.TransportError as error:
            raise ServiceDown(
                f"The Littlest Binder's service at {self._where} is not running ({error or 'no answer'}).",
                "Start it: `littlest-binder up` on a desktop, `systemctl start tljh-binder` on a server.",
            ) from None

    def _error(self, status: int, content: bytes) -> BinderError:
        try:
            value = json.loads(content)
        except ValueError:
            value = None
        if isinstance(value, dict) and isinstance(value.get("code"), str):
            error = from_dict({str(key): str(item) for key, item in value.items()})
            error.request_id = request_ids.current()
            return error
        return ServiceDown(
            f"{self._where} answered {status} without saying why: "
            f"{content[:200].decode('utf-8', 'replace')!r}.",
            "Try again in a moment; if it stays so, look at the service's log.",
        )

    def _parse(self, answer: httpx.Response, view: type[_View]) -> _View:
        try:
            return view.model_validate_json(answer.content)
        except ValidationError as error:
            raise self._not_ours(answer, error) from None

    def _parse_list(self, answer: httpx.Response, view: type[_View]) -> list[_View]:
        try:
            return TypeAdapter(list[view]).validate_json(answer.content)  # type: ignore[valid-type]
        except ValidationError as error:
            raise self._not_ours(answer, error) from None

    def _not_ours(self, answer: httpx.Response, error: ValidationError) -> ServiceDown:
        return ServiceDown(
            f"{self._where} gave an answer to {answer.request.url.path} that this version does not "
            f"understand ({error.error_count()} differences).",
            "Restart hub and service so that both run the same version.",
        )

    # -- event streams --------------------------------------------------------------------------------

    async def _follow(
        self, path: str, view: type[_View], position: Callable[[Any], str], after: str, patience_s: float
    ) -> AsyncGenerator[_View, None]:
        """Read a stream of events for ever, coming back after the last one when the connection ends."""
        clock = asyncio.get_running_loop().time
        pause, seen = _FIRST_PAUSE_S, clock()
        while True:
            try:
                async with aclosing(self._stream(path, view, after)) as events:
                    async for event in events:
                        after = position(event) or after
                        pause, seen = _FIRST_PAUSE_S, clock()
                        yield event
                problem = ServiceDown(f"{self._where} ended the events of {path}.", "Try again.")
            except _NothingLeft:
                return
            except ServiceDown as error:
                problem = error
            if clock() - seen > patience_s:
                raise problem
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _stream(self, path: str, view: type[_View], after: str) -> AsyncGenerator[_View, None]:
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        with self._failures():
            async with self._http.stream("GET", API + path, headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    raise self._error(answer.status_code, await answer.aread())
                if answer.status_code == _NO_CONTENT:
                    raise _NothingLeft
                async with aclosing(_event_data(answer.aiter_lines())) as texts:
                    async for data in texts:
                        yield view.model_validate_json(data)


def _says_health(answer: httpx.Response) -> bool:
    """Whether a 503 is the service's own, and not that of a proxy in front of one that is not there."""
    with contextlib.suppress(ValueError):
        value = answer.json()
        return isinstance(value, dict) and "ok" in value
    return False


async def _name_request(request: httpx.Request) -> None:
    request.headers.update(request_ids.headers())


async def _event_data(lines: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The `data` of server-sent events (HTML standard, section 9.2.6); comments are skipped."""
    data: list[str] = []
    async for line in lines:
        if not line and data:
            yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))


def _launch_position(event: LaunchEvent) -> str:
    return f"{event.build}:{event.line.n}" if event.line is not None else ""


def _plain(credential: Credential | None) -> dict[str, Any]:
    return {"credential": credential.plain()} if credential is not None else {}


def _segment(value: str) -> str:
    return quote(value, safe="")
