"""`littlest-binder import`: an image from the file of another machine."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import click

from ..cache.image_file import Manifest, Reader
from ..cache.moves import described
from ..client import ServiceClient
from ..errors import BadImageFile, NotVouchedFor, SettingsError
from ..wire import ImageView, Visibility
from ._service import as_json, console, print_json, progress_bar, runs_async, service

_PIECE = 1024**2


@click.command(name="import", short_help="Read an image from a file of another machine.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--trust", is_flag=True, help="You trust whoever made the file; otherwise you are asked.")
@click.option("--title", default="", help="What people read. Default: the title it had.")
@click.option("--private", is_flag=True, help="Only you and administrators may start it.")
@click.option("--group", "groups", multiple=True, help="Only this group may start it; can be repeated.")
@as_json
@runs_async
async def command(
    file: Path, trust: bool, title: str, private: bool, groups: tuple[str, ...], as_json: bool
) -> None:
    """Read an image from FILE, which `littlest-binder export` wrote, and start it once to see that it works.

    An image of another installation needs your word: whoever made it could have put anything into it.
    """
    visibility: Visibility | None = "group" if groups else "private" if private else None
    manifest = _manifest(file)
    async with service() as (_, client):
        try:
            image = await _send(client, file, trust, title, visibility, groups)
        except NotVouchedFor:
            if trust or not _is_asked() or not _vouched(manifest):
                raise
            image = await _send(client, file, True, title, visibility, groups)
    if as_json:
        print_json(image)
    else:
        console().print(f"{image.title} at {image.commit[:10]} is in the list.")


def _is_asked() -> bool:
    return sys.stdin.isatty()


def _vouched(manifest: Manifest) -> bool:
    identity, spec = described(manifest)
    click.echo(
        f"It says that it is {spec.display} at {identity.commit[:12]}, "
        f"written by the installation {manifest.installation} on {manifest.exported[:10]}.",
        err=True,
    )
    return click.confirm("Do you trust whoever gave it to you?", err=True)


def _manifest(file: Path) -> Manifest:
    """What the file says of itself. Raises `BadImageFile`."""
    reader = Reader()
    try:
        with file.open("rb") as data:
            while reader.manifest is None and (piece := data.read(_PIECE)):
                reader.feed(piece)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from error
    if reader.manifest is None:
        raise BadImageFile(f"{file} is empty, or ends too early.", "Copy it once more.")
    return reader.manifest


async def _send(
    client: ServiceClient,
    file: Path,
    trust: bool,
    title: str,
    visibility: Visibility | None,
    groups: tuple[str, ...],
) -> ImageView:
    async def pieces() -> AsyncGenerator[bytes, None]:
        with progress_bar() as bar, file.open("rb") as data:
            task = bar.add_task("importing", total=os.fstat(data.fileno()).st_size)
            while piece := data.read(_PIECE):
                yield piece
                bar.advance(task, len(piece))

    return await client.import_image(pieces(), trust=trust, title=title, visibility=visibility, groups=groups)
