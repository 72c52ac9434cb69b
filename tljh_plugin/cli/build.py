"""`littlest-binder build`: an image, without starting a server."""

from __future__ import annotations

from contextlib import aclosing

import click

from ..client import ServiceClient
from ..errors import BuildCancelled
from ..wire import BuildRequest, BuildView
from ._credential import asks, credential
from ._service import as_json, print_json, progress_bar, raised, runs_async, service


@click.command(name="build", short_help="Build the image of a repository.")
@click.argument("link")
@click.option("--rebuild", is_flag=True, help="Build although the image is there.")
@click.option("--no-cache", is_flag=True, help="Build anew, and run every step again.")
@asks
@as_json
@runs_async
async def command(link: str, rebuild: bool, no_cache: bool, private: bool, as_json: bool) -> None:
    """Build the image of LINK, or join its build, and show the log; nothing is done if the image is there.

    LINK is a git URL, the address of a repository's page, OWNER/REPO, or a launch link, also one of another
    Binder. The log goes to stderr, the image's id to stdout.
    """
    login = credential(private)
    async with service() as (_, client):
        meaning = await client.resolve(link, credential=login)
        request = BuildRequest(spec=meaning.spec, commit=meaning.commit, rebuild=rebuild, no_cache=no_cache)
        build = await client.build(request, login)
        click.echo(f"{meaning.display} at {meaning.commit[:10]}: {_state(build)}", err=True)
        if build.state != "built":
            build = await follow(client, build)
    if as_json:
        print_json(build)
    else:
        click.echo(build.image_id)


def _state(build: BuildView) -> str:
    if build.hit:
        return "the image is there"
    if build.joined:
        return f"joining build {build.id}"
    return f"build {build.id}"


async def follow(client: ServiceClient, build: BuildView) -> BuildView:
    """Show a build's log and its percent until it ends; raises the error that it ended with."""
    with progress_bar() as bar:
        task = bar.add_task("queued", total=100, completed=build.progress)
        async with aclosing(client.events(build.id)) as lines:
            async for line in lines:
                bar.update(task, description=line.phase, completed=line.progress)
                if line.text:
                    bar.console.print(line.text, markup=False, soft_wrap=True)
                if line.error is not None:
                    raise raised(line.error)
    ended = await client.get_build(build.id)
    if ended.state != "built":
        raise BuildCancelled(f"The build {build.id} was cancelled.", "Run the command again to build it.")
    return ended
