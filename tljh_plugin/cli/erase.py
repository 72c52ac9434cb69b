"""`littlest-binder erase`: images go, with the build cache that only they used."""

from __future__ import annotations

import click

from ._deletion import delete
from ._service import as_json, runs_async


@click.command(name="erase", short_help="Delete images with the build cache that only they used.")
@click.argument("image", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would go, what stays, and what that frees.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def command(image: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete images (ids, names or titles) with the build cache that only they used, which frees their bytes.

    People's files are not touched, and an image is built again when somebody launches its repository. What is
    in use, being started, being built, pinned, too young or not ours stays, and the exit code is then 1.
    """
    await delete(image, "erase", dry_run, yes, as_json)
