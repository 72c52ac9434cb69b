"""The images in a backup come out of it byte for byte, one after the other, whatever becomes of each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from tljh_plugin.errors import BadImageFile
from tljh_plugin.operation import backup, restored_images
from tljh_plugin.operation.backup import Progress
from tljh_plugin.operation.backup_file import Contents, Header, ImageView, Writer, verify

SIZES = (10, 9 * 1024**2 + 7, 4 * 1024**2)


def image(number: int) -> ImageView:
    image_id = f"sha256:{number:064x}"
    return ImageView(image_id=image_id, name="n", title=f"t{number}", spec="s", commit="c", again="file")


async def in_pieces(data: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), 1_000_003):
        yield data[start : start + 1_000_003]


async def written(file: Path) -> list[bytes]:
    header = Header(
        format=1, version="0", created="", instance="i", platform="desktop", state_dir="/s",
        storage_root="/s/p", server_uid=1, server_gid=1,
    )  # fmt: skip
    contents = [os.urandom(size) for size in SIZES]
    with file.open("wb") as out:
        writer = Writer(out, header)
        for number, data in enumerate(contents):
            await backup._write_image(writer, image(number), in_pieces(data), Progress())
        writer.finish(Contents())
    return contents


class Moves:
    """Takes all of the first image, a part of the second one, and nothing of others."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def receive(self, person: object, data: AsyncIterator[bytes], wanted: object) -> str:
        found = b""
        async for piece in data:
            found += piece
            if len(self.taken) == 1:
                self.taken.append(found)
                raise BadImageFile("No.", "Another one.")
        self.taken.append(found)
        return ""


def test_they_come_out_as_they_went_in(tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    contents = asyncio.run(written(file))
    verify(file)
    moves: Any = Moves()

    async def load(*numbers: int) -> list[restored_images.Loaded]:
        wanted = {image(number).image_id: f"t{number}" for number in numbers}
        return [each async for each in restored_images._load_all(moves, file, wanted, Progress())]

    done = asyncio.run(load(0, 1, 2))
    assert [(each.title, bool(each.problem)) for each in done] == [("t0", False), ("t1", True), ("t2", False)]
    assert moves.taken[0] == contents[0]
    assert contents[1].startswith(moves.taken[1])
    assert moves.taken[2] == contents[2]
    assert [each.title for each in asyncio.run(load(2))] == ["t2"]
    assert moves.taken[3] == contents[2]
