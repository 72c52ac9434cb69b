"""`littlest-binder builds`: the builds that were, are and will be."""

from __future__ import annotations

import click
from rich.table import Table

from ._service import as_json, console, print_json, runs_async, service, when


@click.command(name="builds", short_help="List builds, newest first.")
@as_json
@runs_async
async def command(as_json: bool) -> None:
    """List builds, newest first: state, repository at commit, who asked, when."""
    async with service() as (_, client):
        builds = await client.builds(everyone=True)
    if as_json:
        print_json(builds)
        return
    table = Table("id", "state", "repository", "commit", "asked by", "created", box=None)
    for build in builds:
        state = build.state if build.state != "running" else f"{build.phase} {build.progress} %"
        table.add_row(build.id, state, build.spec, build.commit[:10], build.requested_by, when(build.created))
    console().print(table if builds else "No builds yet.")
