"""The file in which an image goes to another machine: a tar archive that can be written and read as a stream.

    littlest-binder.json   what the image is, signed by the installation that wrote it
    image/00000000 …       pieces of what `docker save` gives
    checksum.json          how many bytes these were, and their SHA-256

The image's id is a digest of all it consists of, and it stands in the signed part. Without our software
`tar -xOf FILE --wildcards 'image/*' | docker load` brings the image back.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import BadImageFile
from .tar_stream import BLOCK, Entry, TarError, TarParser

MANIFEST, CHECKSUM, PIECES = "littlest-binder.json", "checksum.json", "image/"
_PIECE = 4 * 1024**2
_MOST_TEXT = 1024**2
_MOST_END = 1024**2  # `docker save` ends with some KiB of zeros, and they are kept in memory
_NAMING = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class Manifest(BaseModel):
    """What the file says of its image. `spec` is the path of a link to it at its commit; `private` tells that
    it was not for everyone; `installation` is a digest of the id of the one that wrote it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    image_id: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    layers: tuple[str, ...] = Field(min_length=1, max_length=500)
    labels: dict[str, str]
    platform: str = Field(max_length=100)
    size: int = Field(ge=0)
    spec: str = Field(max_length=4000)
    ref: str = Field("", max_length=1000)
    recipe: str = Field("", max_length=200)
    created: str = Field("", max_length=40)
    title: str = Field("", max_length=300)
    description: str = Field("", max_length=5000)
    icon: str = Field("", max_length=40)
    urlpath: str = Field("", max_length=2000)
    private: bool = False
    installation: str = Field("", max_length=64)
    exported: str = Field("", max_length=40)
    signature: str = Field("", max_length=64)

    def signed(self, secret: bytes) -> Manifest:
        """The same with the signature of an installation."""
        return self.model_copy(update={"signature": self._sign(secret)})

    def is_signed(self, secret: bytes) -> bool:
        """Whether this installation wrote it."""
        return hmac.compare_digest(self.signature.encode("utf-8", "replace"), self._sign(secret).encode())

    def _sign(self, secret: bytes) -> str:
        text = json.dumps(
            self.model_dump(exclude={"signature"}, mode="json"), ensure_ascii=True, sort_keys=True
        )
        key = hmac.digest(secret, b"exported images", "sha256")
        return hmac.new(key, text.encode("ascii"), hashlib.sha256).hexdigest()


class _Checksum(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str


async def write(manifest: Manifest, image: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The file, piece by piece, from what `docker save` gives."""
    text = manifest.model_dump_json(indent=1).encode()
    digest, size, number = hashlib.sha256(text), 0, 0
    for part in _member(MANIFEST, text):
        yield part
    waiting = bytearray()
    async for chunk in image:
        digest.update(chunk)
        size += len(chunk)
        waiting += chunk
        while len(waiting) >= _PIECE:
            for part in _member(f"{PIECES}{number:08d}", bytes(waiting[:_PIECE])):
                yield part
            del waiting[:_PIECE]
            number += 1
    if waiting:
        for part in _member(f"{PIECES}{number:08d}", bytes(waiting)):
            yield part
    checksum = _Checksum(bytes=size, sha256=digest.hexdigest())
    for part in _member(CHECKSUM, checksum.model_dump_json().encode()):
        yield part
    yield bytes(2 * BLOCK)


def _member(name: str, data: bytes) -> Iterator[bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    yield entry.tobuf(format=tarfile.USTAR_FORMAT)
    yield data
    yield bytes(-len(data) % BLOCK)


class Reader:
    """Takes a file apart: `feed` gives the bytes that Docker may have, `finish` the last ones.

    Docker does nothing before it has the end of its archive, so that is held back until all was found in
    order. `manifest` is there as soon as it was read.
    """

    def __init__(self) -> None:
        self.manifest: Manifest | None = None
        self._outer = TarParser()
        self._image = _ImageWatch()
        self._digest = hashlib.sha256()
        self._size = 0
        self._number = 0
        self._inside = ""  # the name of the present entry
        self._text = bytearray()
        self._left = 0
        self._checksum: _Checksum | None = None

    def feed(self, data: bytes) -> bytes:
        """Raises `BadImageFile`."""
        passed = bytearray()
        try:
            for found in self._outer.feed(data):
                if isinstance(found, Entry):
                    self._begin(found)
                elif self._inside.startswith(PIECES):
                    passed += self._piece(found)
                else:
                    self._read(found)
        except TarError as error:
            raise _bad(str(error)) from None
        return bytes(passed)

    def finish(self) -> bytes:
        """The last bytes for Docker, after the whole file was read. Raises `BadImageFile`."""
        if self.manifest is None or self._checksum is None or not self._outer.whole:
            raise _bad("it ends too early")
        if (self._size, self._digest.hexdigest()) != (self._checksum.bytes, self._checksum.sha256):
            raise _bad("its content is not what was written: the checksum is another one")
        self._image.finish()
        return self._image.held

    def _begin(self, entry: Entry) -> None:
        expected = (
            MANIFEST
            if self.manifest is None
            else CHECKSUM
            if entry.name == CHECKSUM and self._checksum is None
            else f"{PIECES}{self._number:08d}"
        )
        if entry.kind != "file" or entry.name != expected or self._checksum is not None:
            raise TarError(f"it has the entry {entry.name!r:.100} where {expected} belongs")
        self._inside, self._left = entry.name, entry.size
        if entry.name.startswith(PIECES):
            self._number += 1
        elif not 0 < entry.size <= _MOST_TEXT:
            raise TarError(f"its {entry.name} has {entry.size} bytes")

    def _piece(self, data: bytes) -> bytes:
        self._digest.update(data)
        self._size += len(data)
        return self._image.feed(data)

    def _read(self, data: bytes) -> None:
        self._text += data
        self._left -= len(data)
        if self._left:
            return
        text = bytes(self._text)
        self._text.clear()
        try:
            if self._inside == CHECKSUM:
                self._checksum = _Checksum.model_validate_json(text)
                return
            self.manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise TarError(f"its {self._inside} is not understood: `{key}`: {first['msg']}") from None
        self._digest.update(text)
        self._image.expected = self.manifest.image_id.removeprefix("sha256:")


class _ImageWatch:
    """Looks at what Docker would load: the one image that was announced, and no names, which could be those
    of other images here. `held` is the end of the archive."""

    def __init__(self) -> None:
        self.expected = ""
        self.held = b""
        self._parser = TarParser()
        self._offset = 0
        self._reading = ""
        self._text = bytearray()
        self._left = 0
        self._digests: set[str] = set()
        self._seen: set[str] = set()

    def feed(self, data: bytes) -> bytes:
        for found in self._parser.feed(data):
            if isinstance(found, Entry):
                self._begin(found)
            elif self._reading:
                self._text += found
                self._left -= len(found)
                if not self._left:
                    self._judge()
        begin, self._offset = self._offset, self._offset + len(data)
        if self._parser.end < 0:
            return data
        passed = max(0, self._parser.end - begin)
        self.held += data[passed:]
        if len(self.held) > _MOST_END:
            raise TarError(f"more than {_MOST_END} bytes follow the end of the image in it")
        return data[:passed]

    def finish(self) -> None:
        if not self._parser.whole or "manifest.json" not in self._seen:
            raise _bad("the image in it is not whole")
        if self.expected not in self._digests:
            raise _bad(f"it holds the image {min(self._digests)[:64]!r}, and announces {self.expected}")

    def _begin(self, entry: Entry) -> None:
        last = entry.name.rpartition("/")[2]
        self._reading = ""
        if last == "repositories":
            raise TarError("the image in it has names")
        if last not in ("manifest.json", "index.json"):
            return
        if entry.name != last or entry.kind != "file" or not 0 < entry.size <= _MOST_TEXT:
            raise TarError(f"the image in it has the entry {entry.name!r:.100}")
        if last in self._seen:
            raise TarError(f"the image in it has two entries {last}, of which Docker takes one")
        self._seen.add(last)
        self._reading, self._left = last, entry.size

    def _judge(self) -> None:
        name, text = self._reading, bytes(self._text)
        self._reading = ""
        self._text.clear()
        try:
            said = json.loads(text)
            names = self._names_in_index(said) if name == "index.json" else self._names(said)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise TarError(f"the image in it has a {name} that is not understood") from None
        if names:
            raise TarError(f"the image in it has the names {', '.join(map(str, names))[:200]}")

    def _names(self, said: Any) -> list[Any]:
        [image] = said
        self._digests.add(image["Config"].removeprefix("blobs/sha256/").removesuffix(".json"))
        return list(image.get("RepoTags") or ())

    def _names_in_index(self, said: Any) -> list[Any]:
        """An engine with containerd's image store calls an image by the digest that stands here."""
        [image] = said["manifests"]
        self._digests.add(image["digest"].removeprefix("sha256:"))
        annotations = image.get("annotations") or {}
        return [annotations[key] for key in _NAMING if annotations.get(key)]


def _bad(why: str) -> BadImageFile:
    return BadImageFile(
        f"The file is not an exported image: {why}.", "Export the image again, or copy the file once more."
    )
