"""`littlest-binder images`: the images that were built here."""

from __future__ import annotations

from typing import get_args

import click

from ..cache.listing import Badge, Sort
from ._service import as_json, console, print_json, runs_async, service, size, table, when

_ORDERS = [*get_args(Sort), *(f"-{each}" for each in get_args(Sort))]
# The service's list is of our images: the table of the page also has others.
_BADGES = [each for each in get_args(Badge) if each != "not-ours"]


@click.command(name="images", short_help="List the images that were built here.")
@click.option("--search", default="", metavar="TEXT", help="Only images with all these words.")
@click.option(
    "--filter",
    "badge",
    type=click.Choice(_BADGES),
    help=f"Only images of which this holds: {', '.join(_BADGES)}.",
)
@click.option(
    "--sort",
    type=click.Choice(_ORDERS),
    default="built",
    metavar="ORDER",
    help=f"By {', '.join(get_args(Sort))}; the greatest or newest first, with `-` before it last.",
)
@click.option("--limit", type=click.IntRange(1, 1000), help="At most so many.")
@click.option("--page", type=click.IntRange(1), default=1, help="With `--limit`: which page of them.")
@as_json
@runs_async
async def command(
    search: str, badge: str | None, sort: str, limit: int | None, page: int, as_json: bool
) -> None:
    """List the images that were built here: repository, commit, size as Docker says, what erasing it alone
    would free, servers, last use."""
    if page > 1 and limit is None:
        raise click.UsageError("`--page` needs `--limit`.")
    async with service() as (_, client):
        answer = await client.search_images(
            search, show=badge or "", sort=sort, page=page if limit else 0, limit=limit or 0
        )
    images = answer.images
    if as_json:
        print_json(list(images))
        return
    rows = table("image", "title", "commit", "size", "frees alone", "servers", "last used")
    for image in images:
        rows.add_row(
            image.id.removeprefix("sha256:")[:12],
            image.title,
            image.commit[:10],
            size(image.size),
            "" if image.own_bytes is None else size(image.own_bytes),
            ", ".join(image.users),
            when(image.last_used),
        )
    if images:
        console().print(rows)
        if len(images) < answer.found:
            console().print(f"{len(images)} of {answer.found} that were found.")
    elif search or badge or page > 1:
        console().print("No image is like that.")
    else:
        console().print("No images yet. `littlest-binder build LINK` makes one.")
