"""The only client of JupyterHub's API, for majors 5 and 6.

It speaks for the owner of its token, with no more rights than that: a service's own token reads, a signed-in
person's token starts and stops that person's servers. What goes wrong is an error of `errors`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from . import request_ids
from .errors import (
    BinderError,
    Forbidden,
    HubUnavailable,
    InvalidRequest,
    LaunchError,
    NotFound,
    ServerExists,
    from_dict,
)
from .plain_http import verify_for

ERROR_HEADER = "Littlest-Binder-Error"

_CONNECT_S = 5.0
_LONGEST_HEADER = 3000
_ANSWER_S = 30.0
# Without it a page ends at the hub's own limit, and does not say so.
_PAGES = "application/jupyterhub-pagination+json"
_READINGS = 5
# The hub sends a line every 8 s while a server starts.
_SILENCE_S = 30.0

StartState = Literal["starting", "ready"]


class HubModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class HubServer(HubModel):
    """A server as the hub knows it, running or not.

    `pending` is `spawn`, `stop` or nothing; `url` is absolute where subdomains are used, else a path;
    `user_options` are what the server was last asked for with.
    """

    name: str
    ready: bool = False
    pending: str | None = None
    stopped: bool = False
    url: str = ""
    display_name: str | None = None
    started: datetime | None = None
    last_activity: datetime | None = None
    user_options: dict[str, Any] = {}

    @field_validator("user_options", mode="before")
    @classmethod
    def _none_given(cls, value: Any) -> Any:
        return value or {}

    @property
    def active(self) -> bool:
        """Whether it runs, starts or stops."""
        return self.ready or bool(self.pending)


class HubUser(HubModel):
    """A person as the hub knows them; `servers` includes stopped ones where the token may see them."""

    name: str
    admin: bool = False
    groups: tuple[str, ...] = ()
    servers: dict[str, HubServer] = {}


class HubApi:
    """One client of the hub's API; close it with `aclose()` or use it as an async context manager.

    `api_url` ends with `/hub/api`. `acting_as` gives a client for another token that shares its connections.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        *,
        timeout_s: float = _ANSWER_S,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.api_url = api_url.rstrip("/")
        self._headers = {"Authorization": f"token {token}"}
        self._timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
        # The hub is on this machine: never behind a proxy of the environment.
        self._http = http or httpx.AsyncClient(
            timeout=self._timeout, trust_env=False, verify=verify_for(self.api_url)
        )
        self._owns = http is None
        self._major = 0

    def acting_as(self, token: str) -> HubApi:
        """The same hub, with another token."""
        other = HubApi(self.api_url, token, http=self._http)
        other._timeout, other._major = self._timeout, self._major
        return other

    async def __aenter__(self) -> HubApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, if they are this client's own."""
        if self._owns:
            await self._http.aclose()

    # -- people ---------------------------------------------------------------------------------------

    async def version(self) -> str:
        """JupyterHub's version; needs no rights."""
        return str((await self._request("GET", "/")).json()["version"])

    async def whoami(self) -> HubUser:
        """The owner of the token."""
        return self._parse(HubUser, await self._request("GET", "/user"))

    async def user(self, person: str) -> HubUser:
        """One person with their servers, stopped ones too. Raises `NotFound`."""
        return self._parse(
            HubUser, await self._request("GET", f"/users/{_part(person)}?include_stopped_servers")
        )

    async def users(self) -> list[HubUser]:
        """All people whom the token may list.

        Page by page, each as long as the hub's `api_page_max_limit` allows. Raises `HubUnavailable` if people
        come and go so fast that no reading of the list is whole.
        """
        for _ in range(_READINGS):
            found, totals = await self._list_users()
            if totals == {len(found)}:
                return found
        raise HubUnavailable(
            f"JupyterHub's list of {max(totals)} people changed each time that it was read.", "Try again."
        )

    async def _list_users(self) -> tuple[list[HubUser], set[int]]:
        """The people of one reading, and how many each page said that there are.

        When one is deleted, all behind move up, and who moves to a page that was read is missed.
        """
        found: dict[str, HubUser] = {}
        totals = set()
        offset: int | None = 0
        while offset is not None:
            page = (await self._request("GET", f"/users?offset={offset}", accept=_PAGES)).json()
            users = [self._parse_value(HubUser, row) for row in page["items"]]
            found |= {user.name: user for user in users}
            totals.add(int(page["_pagination"]["total"]))
            following = page["_pagination"]["next"]
            offset = following["offset"] if following else None
        return list(found.values()), totals

    async def names(self) -> list[str]:
        """Of all people whom the token may list."""
        return [person.name for person in await self.users()]

    # -- servers --------------------------------------------------------------------------------------

    async def servers(self, person: str) -> dict[str, HubServer]:
        """A person's servers by name, stopped ones too; the one without a name is `""`."""
        return (await self.user(person)).servers

    async def server(self, person: str, name: str) -> HubServer | None:
        """One server, or None if there is no such."""
        return (await self.servers(person)).get(name)

    async def start(
        self, person: str, name: str, options: Mapping[str, Any] | None = None, *, display_name: str = ""
    ) -> StartState:
        """Start a server; without `options` with those that it was last started with.

        Answers while it still starts: follow `progress`. Raises `ServerExists` if it runs, and whatever our
        spawner raised if it failed at once.
        """
        body: dict[str, Any] = {}
        if options is not None:
            body = {"user_options": dict(options)} if await self._major_version() >= 6 else dict(options)
        if display_name and await self._major_version() >= 6:
            body["display_name"] = display_name
        answer = await self._request(
            "POST", self._server_path(person, name), body=body or None, starting=True
        )
        if answer.status_code != 201:
            return "starting"
        # JupyterHub says 201 also of a second start that begins after one that failed.
        found = await self.server(person, name)
        return "ready" if found is not None and found.ready else "starting"

    async def stop(self, person: str, name: str, *, remove: bool = False) -> bool:
        """Stop a server, also one that is starting; with `remove` its name is forgotten, too.

        True if it has stopped, False if it is still stopping. A server that does not run is no error.
        """
        try:
            answer = await self._request(
                "DELETE",
                self._server_path(person, name),
                body={"remove": True} if remove and name else None,
            )
        except NotFound:
            return True
        return answer.status_code != 202

    async def progress(self, person: str, name: str) -> AsyncIterator[dict[str, Any]]:
        """What the hub says of a start: events with `progress` and `message`, ours also `build`, `error`.

        The last one has `ready` (and `url`) or `failed`. Raises `NotFound` if there is no such server and
        `InvalidRequest` if it is not starting.
        """
        path = f"{self._server_path(person, name)}/progress"
        timeout = httpx.Timeout(_SILENCE_S, connect=_CONNECT_S)
        with self._failures():
            async with self._http.stream(
                "GET", self.api_url + path, headers=self._sent(), timeout=timeout
            ) as answer:
                if answer.is_error:
                    raise _error(answer.status_code, await answer.aread(), path)
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        event: dict[str, Any] = json.loads(line[5:])
                        yield event

    # -- tokens ---------------------------------------------------------------------------------------

    async def new_token(self, person: str, *, scopes: list[str], seconds: int, note: str) -> str:
        """A token of `person` that ends after `seconds`; never more than the owner of ours may do."""
        answer = await self._request(
            "POST",
            f"/users/{_part(person)}/tokens",
            body={"scopes": scopes, "expires_in": seconds, "note": note},
        )
        return str(answer.json()["token"])

    # -- requests -------------------------------------------------------------------------------------

    def _sent(self) -> dict[str, str]:
        return {**self._headers, **request_ids.headers()}

    def _server_path(self, person: str, name: str) -> str:
        return f"/users/{_part(person)}/servers/{_part(name)}" if name else f"/users/{_part(person)}/server"

    async def _major_version(self) -> int:
        if not self._major:
            self._major = int((await self.version()).split(".")[0])
        return self._major

    async def _request(
        self, method: str, path: str, *, body: Any = None, starting: bool = False, accept: str = ""
    ) -> httpx.Response:
        headers = {**self._sent(), **({"Accept": accept} if accept else {})}
        with self._failures():
            answer = await self._http.request(
                method, self.api_url + path, json=body, headers=headers, timeout=self._timeout
            )
        if answer.is_error:
            if ERROR_HEADER in answer.headers:
                refused = from_dict(json.loads(answer.headers[ERROR_HEADER]))
                refused.request_id = request_ids.current()
                raise refused
            raise _error(answer.status_code, answer.content, path, starting=starting)
        return answer

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise HubUnavailable(
                f"JupyterHub at {self.api_url} did not answer in time ({type(error).__name__}).",
                "Try again; if it stays so, look at the hub's log.",
            ) from None
        except httpx.TransportError as error:
            raise HubUnavailable(
                f"JupyterHub at {self.api_url} cannot be reached ({error or type(error).__name__}).",
                "Start it: `littlest-binder up` on a desktop, `systemctl start jupyterhub` on a server.",
            ) from None

    def _parse(self, model: type[HubUser], answer: httpx.Response) -> HubUser:
        return self._parse_value(model, answer.json())

    def _parse_value(self, model: type[HubUser], value: Any) -> HubUser:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HubUnavailable(
                f"JupyterHub at {self.api_url} gave an answer that this version does not understand "
                f"({where} is {first['input']!r:.60}).",
                "Use JupyterHub 5.5 or 6.1.",
            ) from None


def error_headers(error: BinderError) -> dict[str, str]:
    """Headers that carry our spawner's error to `HubApi.start` as a value: JSON in ASCII, cut if long."""
    value = error.to_dict()
    for cut in (len(value["message"]), 1000, 300):
        text = json.dumps({**value, "message": value["message"][:cut], "next": value["next"][:cut]})
        if len(text) <= _LONGEST_HEADER:
            return {ERROR_HEADER: text}
    return {}


def _part(value: str) -> str:
    return quote(value, safe="@~")


def _error(status: int, content: bytes, path: str, *, starting: bool = False) -> BinderError:
    """What the hub's refusal means."""
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content[:200].decode("utf-8", "replace").strip()
    if status == 403:
        return Forbidden(
            f"JupyterHub does not allow that: {message or path}.",
            "Sign in again, or ask the administrator for the right to do it.",
        )
    if status == 404:
        return NotFound(f"JupyterHub knows nothing at {path}: {message}.", "Check the name.")
    if starting and ("already running" in message or "is pending" in message):
        return ServerExists(f"The server is there already: {message}.", "Open it, or stop it first.")
    if starting:
        return LaunchError(message or f"JupyterHub answered {status}.", "See the server's page for more.")
    if status >= 500:
        return HubUnavailable(f"JupyterHub failed ({status}): {message}.", "Try again; see the hub's log.")
    return InvalidRequest(f"JupyterHub refused ({status}): {message}.", "Correct the request and try again.")
