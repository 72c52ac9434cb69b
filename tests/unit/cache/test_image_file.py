"""The file of an exported image: what is written is read, and what was tampered with is not passed on."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tljh_plugin.cache.image_file import Manifest, Reader, write
from tljh_plugin.cache.tar_stream import Entry, TarError, TarParser
from tljh_plugin.errors import BadImageFile

CONFIG = "c0" * 32
SECRET = b"s" * 32


def archive(
    members: dict[str, bytes] | list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for member, data in members.items() if isinstance(members, dict) else members:
            entry = tarfile.TarInfo(member) if isinstance(member, str) else member
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def saved(said: Any = None, **more: bytes) -> bytes:
    """What `docker save` gives."""
    said = (
        [{"Config": f"{CONFIG}.json", "RepoTags": None, "Layers": ["l/layer.tar"]}] if said is None else said
    )
    members = {
        f"{CONFIG}.json": b"{}",
        "l/layer.tar": b"layer" * 5000,
        "manifest.json": json.dumps(said).encode(),
    }
    return archive({**members, **{name.replace("_", "."): data for name, data in more.items()}})


def manifest(**more: Any) -> Manifest:
    values: dict[str, Any] = {
        "image_id": f"sha256:{CONFIG}",
        "layers": ("sha256:1",),
        "labels": {"a": "b"},
        "platform": "linux/amd64",
        "size": 1,
        "spec": "gh/owner/repo/" + "a" * 40,
    }
    return Manifest(**{**values, **more}).signed(SECRET)


async def file_of(image: bytes, size: int = 4096) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(image), size):
            yield image[begin : begin + size]

    return b"".join([piece async for piece in write(manifest(), pieces())])


def read(data: bytes, seed: int = 0) -> tuple[Reader, bytes, bytes]:
    """In pieces of any length: the reader, what was passed on, and what was held back to the end."""
    chance, reader, passed = random.Random(seed), Reader(), b""
    while data:
        count = chance.choice([1, 7, 511, 512, 513, 5000, 100_000])
        passed += reader.feed(data[:count])
        data = data[count:]
    return reader, passed, reader.finish()


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_written_is_read(seed: int) -> None:
    image = saved()
    reader, passed, held = read(await file_of(image, 1 + 997 * seed), seed)
    assert passed + held == image
    assert reader.manifest == manifest()
    assert reader.manifest.is_signed(SECRET)
    assert not reader.manifest.is_signed(b"t" * 32)
    assert not reader.manifest.model_copy(update={"title": "other"}).is_signed(SECRET)


async def test_docker_does_not_get_the_end_before_all_was_found_in_order() -> None:
    image = saved()
    whole = await file_of(image)
    _, _, held = read(whole)
    assert len(held) >= 1024
    assert not held.strip(b"\0")
    for end in range(0, len(whole) - 1024, 2011):
        reader = Reader()
        passed = reader.feed(whole[:end])
        assert not passed.endswith(bytes(1024))
        assert len(passed) < len(image)
        with pytest.raises(BadImageFile):
            reader.finish()


async def test_a_changed_byte_is_found() -> None:
    whole = await file_of(saved())
    end = len(whole.rstrip(b"\0"))
    for at in range(0, end, 997):
        if not whole[at]:
            continue  # padding, which nobody reads
        with pytest.raises(BadImageFile):
            read(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


NAMED = [{"Config": f"{CONFIG}.json", "RepoTags": ["debian:bookworm"], "Layers": []}]
OTHER = [{"Config": f"{'d1' * 32}.json", "RepoTags": None, "Layers": []}]
PLAIN = [{"Config": f"{CONFIG}.json", "RepoTags": None, "Layers": []}]
INDEX = json.dumps({"manifests": [{"digest": f"sha256:{CONFIG}"}]}).encode()
INDEX_TWICE = [(tarfile.TarInfo("index.json"), INDEX), (tarfile.TarInfo("index.json"), INDEX)]


@pytest.mark.parametrize(
    "image",
    [
        saved(NAMED),
        saved(OTHER),
        saved([*NAMED, *NAMED]),
        saved([]),
        saved({}),
        saved(repositories=b'{"debian": {"bookworm": "x"}}'),
        saved(
            index_json=b'{"manifests": [{"digest": "x", "annotations": {"io.containerd.image.name": "a"}}]}'
        ),
        saved(index_json=b"[" * 100_000),
        archive({"layer.tar": b"no manifest"}),
        archive({"x/manifest.json": json.dumps(NAMED).encode()}),
        archive({"./manifest.json": json.dumps(NAMED).encode()}),
        archive({"manifest.json": json.dumps(NAMED).encode()}, tarfile.GNU_FORMAT),
        b"",
        b"\0" * 1024,
        saved() + saved(NAMED),
        saved().rstrip(b"\0")[:-200],
        archive([(tarfile.TarInfo("manifest.json"), json.dumps(PLAIN).encode()) for _ in range(2)]),
        archive([(tarfile.TarInfo("manifest.json"), json.dumps(PLAIN).encode()), *INDEX_TWICE]),
    ],
)
async def test_an_image_with_names_or_of_another_kind_is_refused(image: bytes) -> None:
    with pytest.raises(BadImageFile):
        read(await file_of(image))


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in more.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "member",
    [
        entry("manifest.json", tarfile.SYMTYPE, linkname="layer.tar"),
        entry("manifest.json", tarfile.LNKTYPE, linkname="layer.tar"),
        entry("../manifest.json"),
        entry("/manifest.json"),
        entry("layer.tar", pax_headers={"path": "manifest.json"}),
        entry("layer.tar", pax_headers={"GNU.sparse.name": "manifest.json"}),
        entry("device", tarfile.CHRTYPE),
    ],
)
async def test_no_entry_is_taken_for_another(member: tarfile.TarInfo) -> None:
    image = archive([(member, b""), (entry("manifest.json"), json.dumps(NAMED).encode())])
    with pytest.raises(BadImageFile):
        read(await file_of(image))


def test_the_parser_reads_what_tarfile_writes() -> None:
    long = "a" * 90 + "/" + "b" * 90 + "/ü" * 40
    members = {"empty": b"", "one": b"1", long: b"2" * 513, "block": b"3" * 512}
    parser, found, data = TarParser(), [], b""
    for each in parser.feed(archive(members)):
        if isinstance(each, Entry):
            found.append((each.name, each.size))
        else:
            data += each
    assert found == [(name, len(text)) for name, text in members.items()]
    assert data == b"".join(members.values())
    assert parser.whole


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"x" * 512 + data,
        lambda data: data[:512].replace(b"ustar\x0000", b"ustar  \0") + data[512:],
        lambda data: data[:148] + b"0000000\0" + data[156:],
        lambda data: data + b"more",
    ],
)
def test_the_parser_refuses_what_it_does_not_understand(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TarError):
        list(TarParser().feed(change(archive({"one": b"1"}))))


async def test_zeros_without_end_are_not_kept_in_memory() -> None:
    whole = await file_of(saved() + bytes(3 * 1024**2))
    with pytest.raises(BadImageFile, match="follow the end"):
        read(whole)
    read(await file_of(saved() + bytes(100_000)))


@pytest.mark.parametrize(
    "records",
    [
        b"9" * 5000 + b" path=a\n",
        b"5013 size=" + b"1" * 5002 + b"\n",
    ],
)
def test_a_number_without_end_is_refused(records: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    data = archive([(header, records)], tarfile.USTAR_FORMAT)
    with pytest.raises(TarError, match=r"not understood|of the size"):
        list(TarParser().feed(data[:-1024] + archive({"one": b"1"})))
