"""`littlest-binder storage`: where people's files are, and saying that a disk is new."""

from __future__ import annotations

import click

from ._service import as_json, print_json, runs_async, service, size


@click.group(
    name="storage",
    invoke_without_command=True,
    short_help="Show where people's files are; `adopt` a new disk.",
)
@as_json
@click.pass_context
@runs_async
async def command(context: click.Context, as_json: bool) -> None:
    """Show where people's files are, and what is wrong with that place, if anything is."""
    if context.invoked_subcommand is not None:
        return
    async with service() as (_, client):
        storage = await client.storage()
    if as_json:
        print_json(storage)
        return
    click.echo(f"{storage.root}: you keep {size(storage.used_bytes)}.")
    if storage.problem:
        click.echo(f"{storage.problem.message} {storage.problem.next}")


@command.command(name="adopt", short_help="Say that the folder of `storage.root` is new.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def adopt(yes: bool, as_json: bool) -> None:
    """Take the folder that `storage.root` names for people's files, though it is not the one of before.

    For a new disk, and for one that comes from another installation. Nothing that is in it is changed. Files
    that were kept elsewhere are not seen as long as `storage.root` does not name their place again.
    """
    async with service() as (_, client):
        before = await client.storage()
        if not yes and not as_json:
            click.confirm(f"Keep people's files in {before.root} from now on?", abort=True, err=True)
        storage = await client.adopt_storage()
    if as_json:
        print_json(storage)
    else:
        click.echo(f"People's files are kept in {storage.root}.")
