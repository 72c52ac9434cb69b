"""`littlest-binder accounting`: who used how much."""

from __future__ import annotations

from typing import get_args

import click
from rich.table import Table

from ..wire import AccountBy, AccountView
from ._service import as_json, console, print_json, runs_async, service, size, when


@click.command(name="accounting", short_help="Show who used how much.")
@click.option(
    "--by",
    type=click.Choice(get_args(AccountBy)),
    default="person",
    show_default=True,
    help="One row for each of these.",
)
@click.option("--since", default="", metavar="DATE", help="From this day on (UTC); else this month.")
@click.option("--until", default="", metavar="DATE", help="Up to and with this day (UTC); else until now.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@as_json
@runs_async
async def command(by: AccountBy, since: str, until: str, as_csv: bool, as_json: bool) -> None:
    """Show server hours, memory hours, build minutes and kept files of each person, group or day.

    Memory and processors are those that servers were promised, used or not. A row with `≥` is a lower bound:
    the end of a server was not seen, or files were not measured to the end.
    """
    async with service() as (_, client):
        if as_csv:
            given = {"by": by, "since": since, "until": until}
            given = {name: value for name, value in given.items() if value}
            click.echo(await client.as_table("accounting", given), nl=False)
            return
        report = await client.accounting(by, since, until)
    if as_json:
        print_json(report)
        return
    table = Table(
        by,
        "servers",
        "server hours",
        "memory GiB h",
        "CPU hours",
        "builds",
        "build minutes",
        "kept",
        box=None,
    )
    for each in report.rows:
        table.add_row(*_cells(each))
    console().print(table if report.rows else "Nothing was used.")
    console().print(f"From {when(report.since)} to {when(report.until)}.")


def _cells(row: AccountView) -> tuple[str, ...]:
    return (
        row.name or "(no group)",
        str(row.servers),
        ("" if row.whole else "≥ ") + f"{row.server_hours:.2f}",
        f"{row.memory_gib_hours:.2f}",
        f"{row.cpu_hours:.2f}",
        str(row.builds),
        f"{row.build_minutes:.1f}",
        "" if row.kept_bytes is None else size(row.kept_bytes),
    )
