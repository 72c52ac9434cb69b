"""`littlest-binder export`: an image into a file, for another machine."""

from __future__ import annotations

import os
from contextlib import aclosing, suppress
from pathlib import Path

import click

from ..cache.image_file import Reader
from ..client import ServiceClient
from ..errors import SettingsError
from ..wire import ImageView
from ._images import find_image
from ._service import as_json, console, print_json, progress_bar, runs_async, service, size


@click.command(name="export", short_help="Write an image to a file, for another machine.")
@click.argument("image")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@as_json
@runs_async
async def command(image: str, file: Path, force: bool, as_json: bool) -> None:
    """Write IMAGE to FILE, which `littlest-binder import` reads on another machine.

    IMAGE is an image's id or the beginning of it, its name, or its title. FILE appears when it is complete.
    """
    _refuse_to_overwrite(file, force)
    async with service() as (_, client):
        found = find_image(await client.images(), image)
        part = file.with_name(f".{file.name}.part")
        try:
            written = await _write(client, found, part)
            part.replace(file)
        except OSError as error:
            raise SettingsError(
                f"{file} cannot be written: {error.strerror}.", "Choose a folder with enough room."
            ) from error
        finally:
            with suppress(OSError):
                part.unlink()
    if as_json:
        print_json({"image": found.id, "file": str(file), "bytes": written})
    else:
        console().print(f"{found.title} at {found.commit[:10]}: {file}, {size(written)}.", soft_wrap=True)


def _refuse_to_overwrite(file: Path, force: bool) -> None:
    if file.exists() and not force:
        raise SettingsError(f"{file} is there already.", "Choose another name, or give `--force`.")


async def _write(client: ServiceClient, image: ImageView, file: Path) -> int:
    """The bytes that were written, all of which were found in order."""
    reader, written = Reader(), 0
    with progress_bar() as bar, file.open("wb") as out:
        task = bar.add_task("exporting", total=image.size)
        async with aclosing(client.export_image(image.id)) as pieces:
            async for piece in pieces:
                reader.feed(piece)
                written += out.write(piece)
                bar.advance(task, len(piece))
        reader.finish()
        out.flush()
        os.fsync(out.fileno())
    return written
