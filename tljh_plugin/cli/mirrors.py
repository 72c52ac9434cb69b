"""`littlest-binder mirrors`: the stored copies of repositories."""

from __future__ import annotations

import click

from ._service import as_json, console, print_json, runs_async, service, size, table, when


@click.command(name="mirrors", short_help="List the stored copies of repositories, or remove those unneeded.")
@click.option(
    "--remove", is_flag=True, help="Remove those of which there is no image; they are fetched again."
)
@click.option("--dry-run", is_flag=True, help="With `--remove`: only show what would go.")
@as_json
@runs_async
async def command(remove: bool, dry_run: bool, as_json: bool) -> None:
    """List the stored copies of repositories, the one that is unused for longest first.

    They make the fetch of a newer commit short. Those that were not used for `source.mirror_days` and of
    which there is no image go by themselves. One that a build reads at this moment stays.
    """
    async with service() as (_, client):
        if remove and not dry_run:
            found = await client.remove_mirrors()
        else:
            found = [each for each in await client.mirrors() if not (remove and each.needed)]
    if as_json:
        print_json(found)
        return
    rows = table("copy", "size", "last used", "image")
    for each in found:
        rows.add_row(each.name, size(each.bytes), when(each.used), "there" if each.needed else "")
    if found:
        console().print(rows)
    total = size(sum(each.bytes for each in found))
    done = "went" if remove and not dry_run else "would go" if remove else "are stored"
    console().print(f"{len(found)} {done}, {total}.")
