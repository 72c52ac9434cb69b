"""`littlest-binder logs`: the log of a build, replayed and followed."""

from __future__ import annotations

from contextlib import aclosing

import click

from ._service import as_json, raised, runs_async, service


@click.command(name="logs", short_help="Print the log of a build and follow it.")
@click.argument("build_id", metavar="BUILD")
@click.option("--no-follow", is_flag=True, help="Print what is there and end.")
@as_json
@runs_async
async def command(build_id: str, no_follow: bool, as_json: bool) -> None:
    """Print the log of BUILD (an id from `littlest-binder builds`) and follow it to its end.

    With --json one JSON object a line. Exit code 1 if the build failed.
    """
    async with service() as (_, client):
        if no_follow:
            lines = await client.log(build_id)
        else:
            lines = []
            await client.get_build(build_id)
            async with aclosing(client.events(build_id)) as events:
                async for line in events:
                    click.echo(line.model_dump_json() if as_json else line.text)
                    if line.error is not None:
                        raise raised(line.error)
    for line in lines:
        click.echo(line.model_dump_json() if as_json else line.text)
