"""`littlest-binder audit`: who did what to which thing."""

from __future__ import annotations

import click
from rich.table import Table

from ._service import as_json, console, print_json, runs_async, service, when


@click.command(name="audit", short_help="Show who did what to which thing.")
@click.option("--who", default="", metavar="NAME", help="Only what this person did.")
@click.option("--what", default="", metavar="ACTION", help="Only this action, or kind: `image.pin`, `image`.")
@click.option("--thing", default="", metavar="TEXT", help="Only things with TEXT in their name.")
@click.option("--since", default="", metavar="DATE", help="From this day on (UTC), or a moment.")
@click.option("--until", default="", metavar="DATE", help="Up to and with this day (UTC), or to a moment.")
@click.option("--request", default="", metavar="ID", help="Only what happened in the request of this id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--before", type=click.IntRange(1), help="Only entries before this number: the next page.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all that fits as CSV.")
@as_json
@runs_async
async def command(
    who: str,
    what: str,
    thing: str,
    since: str,
    until: str,
    request: str,
    limit: int,
    before: int | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show who did what to which image, build, project or setting, newest first."""
    fields = {
        "who": who,
        "what": what,
        "thing": thing,
        "since": since,
        "until": until,
        "request": request,
    }
    async with service() as (_, client):
        if as_csv:
            given = {name: value for name, value in fields.items() if value}
            click.echo(await client.as_table("audit", given), nl=False)
            return
        entries = await client.audit(limit=limit, before=before or 0, **fields)
    if as_json:
        print_json(entries)
        return
    table = Table("number", "when", "who", "what", "thing", "result", "request", box=None)
    for each in entries:
        table.add_row(
            str(each.number), when(each.time), each.who, each.what, each.thing, each.result, each.request
        )
    console().print(table if entries else "Nothing was found.")
