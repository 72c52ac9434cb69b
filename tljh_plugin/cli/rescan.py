"""`littlest-binder rescan`: the list of images read back from Docker."""

from __future__ import annotations

import click
from rich.table import Table

from ._service import as_json, console, print_json, runs_async, service, size


@click.command(name="rescan", short_help="Find images of ours again that are not in the list.")
@as_json
@runs_async
async def command(as_json: bool) -> None:
    """Find images of ours again that are not in the list, and show which others could be adopted.

    Images that carry this installation's signature come back by themselves, as after the store was lost.
    """
    async with service() as (_, client):
        found = await client.rescan()
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(f"{found.known} known, {len(found.restored)} found again.")
    for image in found.restored:
        out.print(f"  {image.name}  {image.title} at {image.commit[:10]}")
    for refused in found.refused:
        out.print(f"Not taken: {', '.join(refused.names) or refused.id}: {refused.reason}.")
    if found.proposals:
        table = Table("could be adopted", "size", "why", box=None)
        for each in found.proposals:
            table.add_row(", ".join(each.names), size(each.size), each.reason)
        out.print(table)
        out.print("`littlest-binder adopt NAME` takes one of them into the list.")
