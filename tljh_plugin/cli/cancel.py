"""`littlest-binder cancel`: end a build."""

from __future__ import annotations

import click

from ._service import as_json, console, print_json, runs_async, service


@click.command(name="cancel", short_help="Cancel a build.")
@click.argument("build")
@as_json
@runs_async
async def command(build: str, as_json: bool) -> None:
    """Cancel a build; nothing of it is left but its log. One that has ended stays as it is.

    BUILD is a build's id, from `littlest-binder builds`.
    """
    async with service() as (_, client):
        ended = await client.cancel(build)
    if as_json:
        print_json(ended)
    else:
        console().print(f"{ended.id}: {ended.state}")
