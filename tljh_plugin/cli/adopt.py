"""`littlest-binder adopt`: an image that was built elsewhere."""

from __future__ import annotations

import click

from ..wire import Visibility
from ._service import as_json, console, print_json, runs_async, service


@click.command(name="adopt", short_help="Take an image that was built elsewhere into the list.")
@click.argument("image")
@click.option("--title", default="", help="What people read. Default: the image's name.")
@click.option("--private", is_flag=True, help="Only you and administrators may start it.")
@click.option("--group", "groups", multiple=True, help="Only this group may start it; can be repeated.")
@as_json
@runs_async
async def command(image: str, title: str, private: bool, groups: tuple[str, ...], as_json: bool) -> None:
    """Take an image that was built elsewhere into the list, so that people can start it.

    IMAGE is its name in Docker, or its id. The setting `binder.policy.images` must allow its name. It is
    started once first, to see whether a server comes up.
    """
    visibility: Visibility = "group" if groups else "private" if private else "everyone"
    async with service() as (_, client):
        adopted = await client.adopt(image, title=title, visibility=visibility, groups=groups)
    if as_json:
        print_json(adopted)
    else:
        console().print(f"Adopted {adopted.title}: start it as {adopted.spec}.", soft_wrap=True)
