"""`littlest-binder up`: Binder at home in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar

import click

from ..build.base import ensure_base
from ..desktop import HOST, new_link
from ..engine import Engine
from ..errors import EngineUnavailable, HubUnavailable, SettingsError
from ..installation import ensure_state, instance_id
from ..operation import at_home
from ..operation.browser import open_browser
from ..operation.engine_kind import check_address, check_kind
from ..operation.examples import ensure_examples
from ..settings import Settings, load_desktop
from . import explain
from ._display import has_display
from ._service import runs_async

T = TypeVar("T")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_S = 90.0


@click.command(name="up", short_help="Start Binder at home in the foreground (desktop).")
@click.option("--no-browser", is_flag=True, help="Do not open the browser.")
@click.option(
    "--no-link",
    is_flag=True,
    help="Print no sign-in link either, for where others may read what is printed; `link` gives one.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    callback=lambda _, __, value: only_loopback(value),
    expose_value=False,
    help="Always 127.0.0.1; any other is refused with the reason and the way that works.",
)
@runs_async
async def command(no_browser: bool, no_link: bool) -> None:
    """On a desktop start Binder at home in the foreground and print a sign-in link; Ctrl-C stops it.

    What is stopped: hub, proxy, service, notebook servers and this installation's network; images and files
    stay. While one is running, only a new link is printed.
    """
    settings = load_desktop()
    ensure_state(settings)
    try:
        with at_home.only_one(settings):
            await _run(settings, no_browser=no_browser, no_link=no_link)
    except at_home.AlreadyRunning:
        await _link_of_the_running_one(settings, no_link=no_link)


def only_loopback(host: str | None) -> str | None:
    """Raises `SettingsError` for an address at which other machines could reach the pages."""
    if host in (None, "", "localhost", HOST, "127.0.0.1"):
        return host
    raise SettingsError(
        f"Binder at home cannot be served at {host}: it has one person and no passwords, its addresses below "
        f"{HOST} exist on this machine only, and without HTTPS others on the network would read along.",
        "To serve a room from this computer, see docs/how-to/serve-a-room.md: TLJH with this plugin, on "
        "it or in a virtual machine.",
    )


async def _link_of_the_running_one(settings: Settings, *, no_link: bool) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not await at_home.answers(settings):
        if time.monotonic() > deadline:
            raise HubUnavailable(
                f"Another `littlest-binder up` works with {settings.state_dir} and does not answer.",
                "Look at what it says, or end it and run the command again.",
            )
        await asyncio.sleep(0.5)
    if no_link:
        click.echo("The Littlest Binder is running. `littlest-binder link` prints a sign-in link.")
        return
    click.echo("The Littlest Binder is running. A new sign-in link:")
    click.echo(new_link(settings))


async def _run(settings: Settings, *, no_browser: bool, no_link: bool) -> None:
    async with _ends_by_signals() as ended:
        preparing = asyncio.ensure_future(_prepare(settings))
        await _first([preparing, asyncio.ensure_future(ended.wait())])
        if ended.is_set():
            preparing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await preparing
        if not ended.is_set():
            await _serve(settings, ended, no_browser=no_browser, no_link=no_link)
    _say("Stopped.")


async def _prepare(settings: Settings) -> None:
    if await at_home.end_leftovers(settings):
        _say("Ended the processes that an earlier run left behind.")
    at_home.check_port(settings)
    check_address()
    engine = Engine(instance_id(settings), timeout_s=settings.docker.timeout_s)
    try:
        info = await _step("Docker", engine.info())
        check_kind(info)
        _detail(f"version {info.version}, {info.storage_driver}, {info.root_dir}")
        for what in await _step("Clearing up", at_home.clear_engine(engine)):
            _detail(f"removed {what}")
        await _step("Base image", ensure_base(settings, _detail))
    except EngineUnavailable as error:
        # People can sign in, see what is there, and read the same where they start something.
        _say(f"{explain(error)}\nUntil then nothing can be built or started; a Docker that comes is used.")
    finally:
        await engine.close()
    await _step("Examples", ensure_examples(settings))


async def _serve(settings: Settings, ended: asyncio.Event, *, no_browser: bool, no_link: bool) -> None:
    starting = time.monotonic()
    async with at_home.hub(settings, ended, _say) as process:
        if ended.is_set():
            return
        _report("Hub and service", starting)
        page = f"http://{HOST}:{settings.desktop.port}/"
        opening = None
        if no_link:
            _say(f"The Littlest Binder is ready at {page}. `littlest-binder link` prints a sign-in link.")
        else:
            address = new_link(settings)
            _say(f"\nThe Littlest Binder is ready at {page}. Sign in once with:\n\n    {address}\n")
            _say("`littlest-binder link` prints another one. Ctrl-C stops everything; files and images stay.")
            if not no_browser and has_display():
                opening = asyncio.ensure_future(open_browser(address))
        await _first([asyncio.ensure_future(process.wait()), asyncio.ensure_future(ended.wait())])
        if opening is not None:
            opening.cancel()
        if not ended.is_set():
            raise HubUnavailable(
                f"The hub ended with exit code {process.returncode}.", f"See {at_home.hub_log(settings)}."
            )


async def _first(works: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until one has ended; what only waits is given up."""
    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    for each in works[1:]:
        each.cancel()


@contextlib.asynccontextmanager
async def _ends_by_signals() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set; a second one changes nothing, stopping goes on."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in _ENDING:
        loop.add_signal_handler(number, ended.set)
    try:
        yield ended
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


async def _step(name: str, work: Awaitable[T]) -> T:
    begun = time.monotonic()
    result = await work
    _report(name, begun)
    return result


def _report(name: str, begun: float) -> None:
    _say(f"[{time.monotonic() - begun:5.1f} s] {name}")


def _detail(line: str) -> None:
    _say(f"          {line}")


def _say(text: str) -> None:
    """Print; that nobody can see it (a terminal that was closed) must not keep us from stopping in order."""
    with contextlib.suppress(OSError):
        click.echo(text)
