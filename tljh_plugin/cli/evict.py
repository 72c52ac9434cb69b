"""`littlest-binder evict`: images go, the build cache stays."""

from __future__ import annotations

import click

from ._deletion import delete
from ._service import as_json, runs_async


@click.command(name="evict", short_help="Delete images, and leave their build cache.")
@click.argument("image", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would go, what stays, and what that frees.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def command(image: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete images (ids, names or titles) and leave Docker's build cache, so that they come back in seconds.

    That frees little: under BuildKit an image's bytes stay in the cache. What is in use, being started, being
    built, pinned, too young or not ours stays, and the exit code is then 1.
    """
    await delete(image, "evict", dry_run, yes, as_json)
