"""`littlest-binder retry`: a failed build once more."""

from __future__ import annotations

import click

from ._credential import asks, credential
from ._service import as_json, print_json, runs_async, service
from .build import follow


@click.command(name="retry", short_help="Build once more what failed.")
@click.argument("build")
@asks
@as_json
@runs_async
async def command(build: str, private: bool, as_json: bool) -> None:
    """Build once more what failed or was cancelled, at the same commit, and show the log.

    BUILD is a build's id. The log goes to stderr, the image's id to stdout.
    """
    login = credential(private)
    async with service() as (_, client):
        again = await client.retry(build, login)
        click.echo(f"build {again.id}", err=True)
        if again.state != "built":
            again = await follow(client, again)
    if as_json:
        print_json(again)
    else:
        click.echo(again.image_id)
