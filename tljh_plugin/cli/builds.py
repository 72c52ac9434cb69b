"""`littlest-binder builds`: the builds that were, are and will be."""

from __future__ import annotations

import click

from ._service import as_json, console, print_json, repository, runs_async, service, table, when


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
    rows = table("id", "state", "repository", "commit", "asked by", "created")
    for build in builds:
        state = build.state if build.state != "running" else f"{build.phase} {build.progress} %"
        who, at = build.requested_by, when(build.created)
        rows.add_row(build.id, state, repository(build.spec), build.commit[:10], who, at)
    console().print(rows if builds else "No builds yet.")
