"""What the commands that ask the service share: the client, bars, times and sizes for people."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from .. import handover, request_ids
from ..amounts import shown_bytes
from ..client import ServiceClient
from ..errors import BinderError, HubUnavailable, InvalidSpec, from_dict
from ..settings import Settings, load_desktop
from ..source.spec import parse_link
from ..wire import ErrorView, Person, Wire

P = ParamSpec("P")
R = TypeVar("R")

_NO_TERMINAL = 10_000  # columns

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def runs_async(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Let a coroutine be a command."""

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        return asyncio.run(function(*arguments, **options))

    return run


def settings_here() -> Settings:
    """The settings of the installation that the command belongs to: what a server's hub handed over, or the
    desktop's file. Raises `SettingsError`.
    """
    try:
        given = handover.read(handover.find_state_dir())
    except HubUnavailable:
        return load_desktop()
    return load_desktop() if given.platform == "desktop" else given.settings()


@asynccontextmanager
async def service(token: str = "") -> AsyncIterator[tuple[Settings, ServiceClient]]:
    """The settings, and a client that speaks for the owner through the service's socket."""
    settings = await asyncio.to_thread(settings_here)
    person = Person(name=settings.owner or getpass.getuser(), admin=True)
    async with ServiceClient(socket=settings.service_socket, person=person, token=token) as client:
        yield settings, client


def print_json(value: Wire | list[Any] | dict[str, Any]) -> None:
    """One JSON document on stdout."""
    click.echo(TypeAdapter(Any).dump_json(value, indent=2).decode())


def console() -> Console:
    """Tables and sentences go to stdout. They hold texts of others, so brackets mean nothing.

    A pipe or a file has no width at which a line would end.
    """
    width = None if sys.stdout.isatty() else _NO_TERMINAL
    return Console(highlight=False, markup=False, emoji=False, width=width)


def table(key: str, *columns: str) -> Table:
    """A table whose first column, which other commands take as an argument, is never shortened."""
    made = Table(box=None)
    made.add_column(key, no_wrap=True)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def repository(spec: str) -> str:
    """The stored path of a repository as people write it."""
    try:
        return parse_link(spec).display
    except InvalidSpec:
        return spec


def progress_bar() -> Progress:
    """A bar on stderr, so that stdout stays for results; on no terminal nothing is drawn."""
    out = Console(stderr=True, highlight=False, markup=False, emoji=False)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not sys.stderr.isatty(),
    )


def raised(error: ErrorView) -> BinderError:
    """The error that the service reported, to be raised here."""
    told = from_dict({"code": error.code, "message": error.message, "next": error.next})
    told.request_id = error.request or request_ids.current()
    return told


def when(time: str) -> str:
    """A time of the store (UTC, ISO 8601) as local time to the minute; empty stays empty."""
    if not time:
        return ""
    moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def size(count: int) -> str:
    """Bytes as the pages say them."""
    return shown_bytes(count)
