"""`POST launches`, `GET launches/{server}/events`, and `GET link`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, create_model

from ...launch.options import LaunchOptions, parse
from ...source.spec import parse_link
from ...wire import Credential, LaunchEvent
from ..events import Event, StreamHandler
from ..handler import ApiHandler
from ..launches import NO_NAME, opened
from ..links import from_form, share
from ..progress import position


class _Server(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    server: str = ""  #: its name; empty: a random one
    restart: bool = False  #: start it again if it was started with other options
    credential: Credential | None = None  #: of a private repository


# With the fields of `LaunchOptions`, whose values are judged by `LaunchOptions` itself.
LaunchRequest: type[_Server] = create_model(
    "LaunchRequest",
    __base__=_Server,
    __doc__="`POST launches`: the launch options and these.",
    **{name: (field.annotation, field.default) for name, field in LaunchOptions.model_fields.items()},
)  # type: ignore[call-overload]


FORM_FIELDS = ("repository", "ref", "path", "profile")


class LaunchList(ApiHandler):
    async def post(self) -> None:
        """Ask the hub to start a server with the person's own token; 202 while it starts. Answers
        `LaunchView`.
        """
        asked = self.body(LaunchRequest)
        options = parse(asked.model_dump(exclude_unset=True, exclude=set(_Server.model_fields)))
        if options.repository:
            self.context.lookups.hold(self.person, parse_link(options.repository), asked.credential)
        view = await self.context.launches.launch(
            self.person, self.door.token(self), options, asked.server, asked.restart
        )
        self.answer(view, status=200 if view.state == "ready" else 202)


class LaunchEvents(StreamHandler):
    async def get(self, server: str) -> None:
        """`?path=`: build and start as one stream of [server-sent events](api.md#events). Each is a
        `LaunchEvent`.
        """
        name = server_name(server)
        await self.context.launches.server(self.person, self.door.token(self), name)
        await self.stream(self._events(name, position(self.last_seen)))

    async def _events(self, name: str, after: tuple[str, int]) -> AsyncGenerator[Event, None]:
        path = opened(self.get_query_argument("path", ""))
        launches = self.context.launches
        source = launches.events(self.person, self.door.token(self), name, after=after, path=path)
        async with aclosing(source) as events:
            async for event in events:
                yield of_event(event)


class Link(ApiHandler):
    """The link and badge for what the launch form says."""

    def get(self) -> None:
        """`?repository=&ref=&path=&profile=`: the launch link and badge for what the form says. Answers
        `LinkView`.
        """
        fields = {name: self.get_query_argument(name, "") for name in FORM_FIELDS}
        self.answer(share(from_form(**fields), self.hub_address))


def server_name(segment: str) -> str:
    """The server's name from its segment of an address."""
    name = unquote(segment)
    return "" if name == NO_NAME else name


def of_event(event: LaunchEvent) -> Event:
    """An event of a launch; a reader resumes after a line of the build's log."""
    number = f"{event.build}:{event.line.n}" if event.line else ""
    return Event(event.model_dump_json(), type=event.type, id=number)
