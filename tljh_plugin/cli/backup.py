"""`littlest-binder backup`: everything that is worth keeping, in one file."""

from __future__ import annotations

from pathlib import Path

import click

from ..operation import backup, installed
from ._operation import shown
from ._service import as_json, console, print_json, runs_async, size


@click.command(name="backup", short_help="Write everything that is worth keeping to one file.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--projects", is_flag=True, help="People's files as well, also while servers use them.")
@click.option("--images", is_flag=True, help="The images themselves, not only their list.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    help="Afterwards only so many newest backups of ours stay in the file's folder. Default: all.",
)
@as_json
@runs_async
async def command(file: Path | None, projects: bool, images: bool, keep: int, as_json: bool) -> None:
    """Write a backup to FILE while everything runs; nothing is stopped.

    In it are the settings, the store, the secrets, the hub's database and cookie secret, the logs of builds,
    and the list of images. Default: `backups/` in the state folder. FILE holds secrets and is readable by you
    alone; it appears when it is complete.
    """
    here = installed.find()
    wish = backup.Wish(file, projects, images, keep)
    with shown("backup", None) as progress:
        made = await backup.make(here, wish, progress)
    if as_json:
        print_json(
            {
                "file": str(made.file),
                "bytes": made.bytes,
                "removed": [str(each) for each in made.removed],
                **made.contents.model_dump(mode="json"),
            }
        )
        return
    _show(made)


def _show(made: backup.Made) -> None:
    out = console()
    out.print(f"{made.file}, {size(made.bytes)}.", soft_wrap=True)
    contents = made.contents
    if contents.with_projects:
        total = sum(each.bytes for each in contents.projects)
        out.print(f"People's files: {len(contents.projects)} folders, {size(total)}.")
    for tree in contents.projects:
        for name in tree.changed:
            out.print(f"changed while it was read: {tree.place}: {name}", soft_wrap=True)
        for name in tree.skipped:
            out.print(f"not in the backup: {tree.place}: {name}", soft_wrap=True)
    again = [each.again for each in contents.images]
    out.print(
        f"Images: {len(again)}; {again.count('file')} in the backup, {again.count('build')} can be built "
        f"again, {again.count('nowhere')} cannot."
    )
    for image in contents.images:
        if image.reason:
            out.print(f"{image.title or image.name}: {image.reason}", soft_wrap=True)
    for sentence in contents.not_in:
        out.print(f"Not in it: {sentence}", soft_wrap=True)
    for path in made.removed:
        out.print(f"removed: {path}", soft_wrap=True)
