"""`littlest-binder disk`: who occupies the disk."""

from __future__ import annotations

import click
from rich.table import Table

from ..wire import DiskView, FilesystemView
from ._service import as_json, console, print_json, runs_async, service, size, when


@click.command(name="disk", short_help="Show who occupies the disk.")
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Show the last DAYS days instead.")
@as_json
@runs_async
async def command(days: float | None, as_json: bool) -> None:
    """Show who occupies the disk: servers, images, build cache, mirrors, people's projects, and the rest.

    As the service measured it last; layers that images share are counted once.
    """
    async with service() as (_, client):
        if days is not None:
            history = await client.disk_history(days)
            if as_json:
                print_json(history)
                return
            table = Table("when", "disk", "used", "of", box=None)
            for each in history.samples:
                table.add_row(when(each.time), each.path, size(each.used), size(each.total))
            console().print(table if history.samples else "Nothing was measured in that time.")
            return
        view = await client.disk()
    if as_json:
        print_json(view)
        return
    for filesystem in view.filesystems:
        console().print(_table(filesystem))
    console().print(_sentence(view))


def _table(filesystem: FilesystemView) -> Table:
    table = Table(
        "", "size", "part", box=None, title=f"{filesystem.path}: {filesystem.percent:.0f} % full",
        title_justify="left",
    )  # fmt: skip
    shown = [(part.id, part.bytes, part.whole) for part in filesystem.parts]
    for name, count, whole in [*shown, ("free", filesystem.free, True)]:
        if count is None:
            table.add_row(name, "not known", "")
        else:
            least = "" if whole else "at least "
            table.add_row(name, least + size(count), f"{100 * count / (filesystem.total or 1):.1f} %")
    return table


def _sentence(view: DiskView) -> str:
    """When it was measured, and what is to be said of it."""
    said = [
        f"Measured {when(view.measured)}." if view.measured else "It is being measured for the first time."
    ]
    said += [f"{each.message} {each.next}" for each in (view.warning, view.problem) if each]
    return "\n".join(said)
