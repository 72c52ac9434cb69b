"""`littlest-binder update`: whether the repositories of images have moved on."""

from __future__ import annotations

import click
from rich.table import Table

from ..wire import NewerView
from ._images import find_image
from ._service import as_json, console, print_json, runs_async, service

_STATES = {
    "same": "up to date",
    "newer": "newer commit",
    "fixed": "asked for by its commit",
    "failed": "not known",
    "gone": "not there",
}


@click.command(name="update", short_help="Look for newer commits, and build them.")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--build", is_flag=True, help="Build what is newer. The old images stay.")
@as_json
@runs_async
async def command(images: tuple[str, ...], build: bool, as_json: bool) -> None:
    """Look whether the branches and tags of IMAGEs, or of all images, point to newer commits by now.

    IMAGE is an image's id or the beginning of it, its name, or its title. With --build one is built at once,
    several one after the other in the background: `littlest-binder builds` shows them.
    """
    async with service() as (_, client):
        known = await client.images() if images else []
        found = await client.look_for_newer([find_image(known, each).id for each in images], build=build)
    if as_json:
        print_json(found)
        return
    table = Table("image", "title", "ref", "commit", "now", "", box=None)
    for each in found:
        table.add_row(
            each.image_id.removeprefix("sha256:")[:12],
            each.title,
            each.ref or "default branch",
            each.commit[:10],
            each.newer_commit[:10],
            _said(each),
        )
    console().print(table if found else "No images yet. `littlest-binder build LINK` makes one.")


def _said(view: NewerView) -> str:
    text = _STATES[view.state]
    if view.error is not None:
        return f"{text}: {view.error.message}"
    return f"{text}, build {view.build_id}" if view.build_id else text
