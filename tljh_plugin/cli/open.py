"""`littlest-binder open`: from a link to a running server in the browser, without the pages."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import click

from .. import handover
from ..client import ServiceClient
from ..desktop import new_link
from ..errors import BinderError, NotFound, ServiceDown
from ..hub_api import HubApi, HubServer
from ..launch.options import parse
from ..operation.browser import open_browser
from ..settings import Settings
from ..source.spec import LaunchLink, parse_link, parse_typed
from ..wire import LaunchEvent, LaunchView, ResolveView
from ._credential import asks, credential
from ._display import has_display
from ._service import as_json, print_json, progress_bar, raised, runs_async, service

_TOKEN_S = 3600
_SCOPES = ["servers!user", "read:users!user", "access:services!service=binder"]


@click.command(name="open", short_help="Build if needed, start a server, open the browser (desktop).")
@click.argument("link")
@click.option("--server", default="", metavar="NAME", help="Name of the server; default: the one of before.")
@click.option("--new", is_flag=True, help="Start another server although there is one for this commit.")
@click.option("--project", default="", metavar="ID", help="Go on in this project; `new` begins another one.")
@click.option("--ephemeral", is_flag=True, help="Keep no files.")
@click.option("--profile", default="", metavar="ID", help="How much the server gets; default: your profile.")
@click.option(
    "--mount", "mounts", multiple=True, metavar="ID", help="A folder of this machine; can be repeated."
)
@click.option("--my-files", is_flag=True, help="Your own folder, the same in all your servers.")
@click.option("--restart", is_flag=True, help="Restart the server NAME if it has other options.")
@asks
@click.option("--log", "show_log", is_flag=True, help="Show the build's log.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@as_json
@runs_async
async def command(
    link: str,
    server: str,
    new: bool,
    project: str,
    ephemeral: bool,
    profile: str,
    mounts: tuple[str, ...],
    my_files: bool,
    restart: bool,
    private: bool,
    show_log: bool,
    no_browser: bool,
    as_json: bool,
) -> None:
    """On a desktop open LINK: build its image if needed, start a server, wait for it, and open it in the
    browser.

    LINK is a git URL, the address of a repository's page, OWNER/REPO, a folder, or a launch link, also one of
    another Binder. A server that was started for the same repository at the same commit is used again. Where
    the repository has moved on since your project of it began, say with --project what to do: its id goes on
    with your files at their commit, `new` begins a second project. The ids for --mount are on the launch form
    and in the setting `binder.mounts`; a link never brings folders along. The address that is printed signs
    in once.
    """
    asked = parse_typed(link)
    login = credential(private)
    async with service() as (settings, client):
        meaning = _at_the_commit_of(project, await client.resolve(asked.spec.path, credential=login))
        known = handover.read(settings.state_dir)
        async with HubApi(known.hub_api_url, known.cli_token) as hub:
            token = await hub.new_token(
                settings.owner, scopes=_SCOPES, seconds=_TOKEN_S, note="littlest-binder open"
            )
            if not server and not new:
                found = await hub.acting_as(token).servers(settings.owner)
                server = _used_before(found, meaning, project, ephemeral, mounts, my_files)
    async with service(token) as (settings, client):
        options = _options(asked, meaning, project, ephemeral, profile, mounts, my_files)
        click.echo(f"{meaning.display} at {meaning.commit[:10]}", err=True)
        started = await client.launch(
            options, server=server or asked.server, restart=restart, credential=login
        )
        ready = await _follow(client, started, show_log)
    await _present(settings, started, ready, no_browser=no_browser, as_json=as_json)


def _at_the_commit_of(project: str, meaning: ResolveView) -> ResolveView:
    """What to start in a project: its own commit, whatever the ref points to now. Raises `NotFound`."""
    if project in ("", "new"):
        return meaning
    for known in meaning.projects:
        if known.id == project:
            return meaning.model_copy(update={"spec": known.spec, "commit": known.commit})
    ids = ", ".join(known.id for known in meaning.projects) or "none"
    raise NotFound(
        f"You have no project {project!r:.80} of {meaning.display}.", f"Your projects of it: {ids}; or `new`."
    )


def _options(
    asked: LaunchLink,
    meaning: ResolveView,
    project: str,
    ephemeral: bool,
    profile: str,
    mounts: tuple[str, ...],
    my_files: bool,
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "repository": meaning.spec,
        "commit": meaning.commit,
        "path": asked.open_path,
        "profile": profile or asked.profile,
        "mounts": list(mounts),
        "my_files": my_files,
    }
    if ephemeral or asked.storage == "ephemeral":
        options["storage"] = "ephemeral"
    elif project or asked.project:
        options["project"] = project or asked.project
    return {key: value for key, value in options.items() if value}


def _used_before(
    servers: dict[str, HubServer],
    meaning: ResolveView,
    project: str,
    ephemeral: bool,
    mounts: tuple[str, ...] = (),
    my_files: bool = False,
) -> str:
    """The name of a server of this repository, commit and project, a running one first; empty if none.

    It has exactly the mounts that are asked for, if any are.
    """
    found = []
    for server in servers.values():
        try:
            options = parse(server.user_options)
            same = parse_link(options.repository).normal_url == meaning.repository
        except BinderError:
            continue
        same = same and options.commit == meaning.commit and options.project == project
        same = same and (not mounts or set(mounts) == set(options.mounts))
        same = same and (options.my_files or not my_files)
        if same and (options.storage == "ephemeral") is ephemeral:
            found.append(server)
    found.sort(key=lambda server: (not server.active, server.name))
    return found[0].name if found else ""


async def _follow(client: ServiceClient, started: LaunchView, show_log: bool) -> LaunchEvent:
    """One bar for build and start; raises the error that the start ended with."""
    with progress_bar() as bar:
        task = bar.add_task("starting", total=100)
        async with aclosing(client.launch_events(started.server)) as events:
            async for event in events:
                if event.error is not None:
                    raise raised(event.error)
                if event.line is not None:
                    if show_log and event.line.text:
                        bar.console.print(event.line.text, markup=False, soft_wrap=True)
                    continue
                bar.update(task, description=event.message or event.step, completed=event.progress)
                if event.type == "ready":
                    return event
    raise ServiceDown(
        f"The events of the server {started.server!r} ended before it was ready.",
        "Run the command again: it goes on from where the start is.",
    )


async def _present(
    settings: Settings, started: LaunchView, ready: LaunchEvent, *, no_browser: bool, as_json: bool
) -> None:
    address = new_link(settings, ready.url)
    if as_json:
        print_json({"server": started.server, "url": ready.url, "sign_in_url": address})
        return
    click.echo(f"The server {started.server!r} is ready:")
    click.echo(address)
    if not no_browser and has_display():
        await open_browser(address)
