"""`littlest-binder images`: the images that were built here."""

from __future__ import annotations

import click

from ._service import as_json, console, print_json, runs_async, service, size, table, when


@click.command(name="images", short_help="List the images that were built here.")
@as_json
@runs_async
async def command(as_json: bool) -> None:
    """List the images that were built here: repository, commit, size as Docker says, servers, last use."""
    async with service() as (_, client):
        images = await client.images()
    if as_json:
        print_json(images)
        return
    rows = table("image", "title", "commit", "size", "servers", "last used")
    for image in images:
        rows.add_row(
            image.id.removeprefix("sha256:")[:12],
            image.title,
            image.commit[:10],
            size(image.size),
            ", ".join(image.users),
            when(image.last_used),
        )
    console().print(rows if images else "No images yet. `littlest-binder build LINK` makes one.")
