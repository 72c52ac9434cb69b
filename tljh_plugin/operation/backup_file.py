"""The file of a backup: a compressed tar archive that can be written and read as a stream.

    backup.json        what it is: format, version, installation, when (`Header`)
    settings.yaml      the section `binder`
    state/…            store, secret, marks and logs of the state folder
    hub/…              database, cookie secret and passwords of the hub
    projects/…         people's files, if they were asked for
    images/<id>/…      pieces of images as `littlest-binder export` writes them, if they were asked for
    manifest.json      what there is (`Contents`), and the SHA-256 of each file in it

`tar -xf` reads it without us, holes included. The checksum of a file with holes is taken of its parts, each
after a line with its offset and length. What is no file has none of its own: `facts` is one of all names,
kinds, owners, rights, times and links in their order.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import BackupTooNew, BadBackup
from .trees import CHUNK, Content, Segment, is_sparse, whole

FORMAT = 1
DELETED = ".deleted"
HEADER, MANIFEST = "backup.json", "manifest.json"
SETTINGS = "settings.yaml"
STATE, HUB, PROJECTS, IMAGES = "state/", "hub/", "projects/", "images/"

# Of what was tried on people's files: 1 packs 97 MB/s to 33 %, 6 32 MB/s to 29 %, xz 15 MB/s to 26 %.
_LEVEL = 1
_MOST_TEXT = 1024**3
_SET_ID = 0o6000
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "name",
}
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
_PLACES = re.compile(
    rf"(?:{re.escape(SETTINGS)}|state/(?:logs/)?[A-Za-z0-9_][A-Za-z0-9._-]*|hub/[A-Za-z0-9_.-]+"
    r"|images/[0-9a-f]{64}/[0-9]{8}|projects/.+)",
    re.DOTALL,
)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Header(_Value):
    """What a backup says of itself before anything else. `schema_names` are the store's migrations."""

    format: int
    version: str
    created: str
    instance: str
    platform: str
    owner: str = ""
    state_dir: str
    storage_root: str
    server_uid: int
    server_gid: int
    jupyterhub: str = ""
    schema_names: tuple[str, ...] = ()


class TreeView(_Value):
    """One folder of people's files: `place` is its name in the archive, `id` a project's (else empty)."""

    place: str
    owner: str
    id: str = ""
    kind: str  # project, deleted, my-files
    entries: int = 0
    bytes: int = 0
    changed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


class ImageView(_Value):
    """An image, and how it can be had again: `file` (in the backup), `build`, or `nowhere` with a reason."""

    image_id: str
    name: str
    title: str
    spec: str
    commit: str
    again: str
    origin: str = "built"  # built, imported or adopted
    reason: str = ""
    bytes: int = 0


class Contents(_Value):
    """What a backup holds, and what was left out on purpose (`not_in`, sentences)."""

    settings: bool = False
    hub_database: bool = False
    with_projects: bool = False
    projects: tuple[TreeView, ...] = ()
    images: tuple[ImageView, ...] = ()
    not_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backup:
    """A backup that was read to its end and found whole, by the names in it: the digests of files, and the
    targets of links and further names. `stored` are the bytes of all files, `settings` the file of that
    name."""

    file: Path
    header: Header
    contents: Contents
    digests: dict[str, str]
    links: dict[str, str]
    stored: int
    settings: bytes = b""


class Writer:
    """Writes into an open file: members in any order, then `finish`. Raises `OSError`."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._packed = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0, filename="")
        self._tar = tarfile.TarFile(fileobj=self._packed, mode="w", format=tarfile.PAX_FORMAT)
        self._digests: dict[str, str] = {}
        self._facts = hashlib.sha256()
        self.add_bytes(HEADER, _text(header.model_dump(mode="json")))

    def add_bytes(self, name: str, data: bytes) -> None:
        """A small file of ours."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        self.add_file(info, whole(data))

    def add_file(self, info: tarfile.TarInfo, content: Content) -> None:
        """A file with what `info` says of it, holes as holes (the format of GNU tar for that, 1.0)."""
        digest = hashlib.sha256()
        info.size = content.size
        _note(self._facts, info)
        name = info.name
        data = digested(content.pieces, content.segments, content.size, digest)
        if content.is_sparse:
            plan = _sparse_map(content.segments, content.size)
            info.pax_headers = {
                **info.pax_headers,
                "path": name,  # else a long name would come after the one below, and hold
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": name,
                "GNU.sparse.realsize": str(content.size),
            }
            info.name = "/".join((*name.split("/")[:-1], "GNUSparseFile.0", name.rpartition("/")[2]))
            info.size = len(plan) + sum(length for _, length in content.segments)
            data = chain((plan,), data)
        self._tar.addfile(info, io.BufferedReader(_Stream(data), CHUNK))
        self._digests[name] = digest.hexdigest()
        _forget(self._tar)

    def add(self, info: tarfile.TarInfo) -> None:
        """A folder, a symbolic link, or a further name of a file."""
        _note(self._facts, info)
        self._tar.addfile(info)
        _forget(self._tar)

    def finish(self, contents: Contents) -> None:
        """The manifest and the end."""
        manifest = {
            "contents": contents.model_dump(mode="json"),
            "facts": self._facts.hexdigest(),
            "files": self._digests,
        }
        data = _text(manifest)
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(data), 0o600
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.close()
        self._packed.close()


@dataclass(frozen=True)
class Member:
    """One member as it is read; a file's data must be taken before the next one. `mtime_ns` as exact as it
    was written."""

    name: str
    kind: str  # file, folder, link, name
    info: tarfile.TarInfo
    segments: tuple[Segment, ...]
    pieces: Callable[[], Iterator[bytes]]

    def data(self, digest: Any) -> Iterator[bytes]:
        """The data of a file, in order, as it passes into its digest."""
        return digested(self.pieces(), self.segments, self.info.size, digest)

    @property
    def mtime_ns(self) -> int:
        return _nanoseconds(self.info)


def members(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> Iterator[Member]:
    """All members but the manifest, each looked at before it is given. Raises `BadBackup`, `OSError`."""
    for member, _ in _read(path, on_bytes):
        if member is not None:
            yield member


def verify(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> Backup:
    """Read it to its end. Raises `BadBackup`, `BackupTooNew`, `OSError`."""
    header: Header | None = None
    manifest: dict[str, Any] = {}
    facts, found, links, stored = hashlib.sha256(), dict[str, str](), dict[str, str](), 0
    texts = {HEADER: b"", SETTINGS: b""}
    for member, end in _read(path, on_bytes):
        if member is None:
            manifest = end
            continue
        _note(facts, member.info)
        if member.kind == "file":
            digest = hashlib.sha256()
            for piece in member.data(digest):
                stored += len(piece)
                if member.name in texts:
                    texts[member.name] += piece
            found[member.name] = digest.hexdigest()
            if member.name == HEADER:
                header = _header(path, texts[HEADER])
        elif member.kind != "folder":
            links[member.name] = member.info.linkname
    if header is None or not manifest:
        raise _bad(path, "it ends too early")
    contents = _judge(path, manifest, found, facts.hexdigest())
    return Backup(path, header, contents, found, links, stored, texts[SETTINGS])


def read_header(path: Path) -> Header:
    """Only what it says of itself. Raises `BadBackup`, `BackupTooNew`, `OSError`."""
    for member, _ in _read(path, lambda count: None):
        if member is None or member.name != HEADER:
            break
        return _header(path, b"".join(member.pieces()))
    raise _bad(path, f"it does not begin with {HEADER}")


def digested(pieces: Iterable[bytes], segments: Iterable[Segment], size: int, digest: Any) -> Iterator[bytes]:
    """The data of a file as it passes into its digest; no piece may reach from one segment into the next."""
    order = list(segments)
    if not is_sparse(order, size):
        for piece in pieces:
            digest.update(piece)
            yield piece
        return
    left = 0
    for piece in pieces:
        if not left:
            start, left = order.pop(0)
            digest.update(b"%d %d\n" % (start, left))
        left -= len(piece)
        digest.update(piece)
        yield piece


def _judge(path: Path, manifest: dict[str, Any], found: dict[str, str], facts: str) -> Contents:
    expected = manifest.get("files")
    if not isinstance(expected, dict) or expected.keys() != found.keys():
        missing = sorted(set(expected or ()) ^ set(found))
        raise _bad(
            path, f"its manifest and its content differ ({missing[0] if missing else 'no list'!r:.200})"
        )
    for name, digest in found.items():
        if expected[name] != digest:
            raise _bad(path, f"the checksum of {name!r:.200} is another one than was written")
    if manifest.get("facts") != facts:
        raise _bad(path, "names, owners or rights in it are not what was written")
    try:
        return Contents.model_validate(manifest.get("contents"))
    except ValidationError as error:
        raise _bad(path, f"its manifest is not understood: {error.errors()[0]['msg']}") from None


def _header(path: Path, data: bytes) -> Header:
    try:
        said = json.loads(data)
        if int(said["format"]) > FORMAT:
            raise BackupTooNew(
                f"{path} has the format {said['format']}, and this version knows {FORMAT}.",
                f"Install version {said.get('version', '')} or later first.",
            )
        return Header.model_validate(said)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise _bad(path, f"its {HEADER} is not understood") from None


def _read(
    path: Path, on_bytes: Callable[[int], None]
) -> Iterator[tuple[Member, dict[str, Any]] | tuple[None, dict[str, Any]]]:
    """Members in order, and at the end `(None, manifest)`."""
    with path.open("rb") as raw:
        packed = gzip.GzipFile(fileobj=_Counting(raw, on_bytes), mode="rb")
        order = _Order(path)
        ended = False
        try:
            with tarfile.TarFile(fileobj=packed, mode="r", errorlevel=2) as tar:
                for info in tar:
                    _forget(tar)
                    if ended:
                        raise _bad(path, f"{info.name!r:.200} follows its manifest")
                    if info.name == MANIFEST and info.isreg() and info.size <= _MOST_TEXT:
                        file = tar.extractfile(info)
                        assert file is not None
                        ended = True
                        yield None, _manifest(path, file.read())
                        continue
                    order.check(info)
                    yield _member(path, packed, info), {}
            while packed.read(CHUNK):
                pass  # to its own checksum
        except _DAMAGE as error:
            raise _bad(path, f"it is damaged, or not whole ({error})") from None
        if not ended:
            raise _bad(path, "it ends too early")


def _manifest(path: Path, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _bad(path, f"its {MANIFEST} is not understood")
    return found


class _Order:
    """What may come after what was there: only plain things below the places that we know."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first = True
        self._kinds: dict[str, str] = {}

    def check(self, info: tarfile.TarInfo) -> None:
        """Raises `BadBackup`."""
        name, kind = info.name, _KINDS.get(info.type, "")
        if info.type == tarfile.GNUTYPE_SPARSE or info.sparse is not None:
            kind = "file"
        if not kind:
            raise self._refused(info, "is neither file, folder nor link")
        if self._first != (name == HEADER):
            raise self._refused(info, f"stands where {HEADER} belongs" if self._first else "is there twice")
        self._first = False
        parts = name.split("/")
        if name.startswith("/") or {"", ".", ".."} & set(parts) or "\0" in name:
            raise self._refused(info, "leads elsewhere")
        if name != HEADER and not _PLACES.fullmatch(name):
            raise self._refused(info, "has no place in a backup")
        if kind != "file" and not name.startswith(PROJECTS):
            raise self._refused(info, "is no file")
        if info.mode & (_SET_ID if kind == "file" else 0o4000):
            raise self._refused(info, f"has the rights {info.mode:o}")
        if name in self._kinds:
            raise self._refused(info, "is there twice")
        above = "/".join(parts[:-1])
        if len(parts) > 3 and self._kinds.get(above) != "folder" and name.startswith(PROJECTS):
            raise self._refused(info, "lies in no folder of the backup")
        if kind == "name":
            self._check_name(info)
        self._kinds[name] = kind

    def _check_name(self, info: tarfile.TarInfo) -> None:
        # A further name only of a file of the same tree: people's files have nothing in common.
        same = tree_of(info.linkname) == tree_of(info.name)
        if self._kinds.get(info.linkname) != "file" or not same:
            raise self._refused(info, f"is a further name of {info.linkname!r:.200}")

    def _refused(self, info: tarfile.TarInfo, why: str) -> BadBackup:
        return _bad(self._path, f"its entry {info.name!r:.200} {why}")


def _member(path: Path, packed: gzip.GzipFile, info: tarfile.TarInfo) -> Member:
    kind = "file" if info.sparse is not None else _KINDS[info.type]
    segments: tuple[Segment, ...] = ()
    if info.sparse is not None:
        holes: Any = info.sparse  # a list of pairs, whatever its stub says
        segments = tuple((int(offset), int(length)) for offset, length in holes if length)
    elif kind == "file" and info.size:
        segments = ((0, info.size),)

    def pieces() -> Iterator[bytes]:
        with _damage(path):
            # What is stored of a file with holes lies together, and tarfile's own reader fills the holes.
            packed.seek(info.offset_data)
        for _, length in segments:
            left = length
            while left:
                with _damage(path):
                    piece = packed.read(min(CHUNK, left))
                if not piece:
                    raise _bad(path, "a file in it is not whole")
                left -= len(piece)
                yield piece

    return Member(info.name, kind, info, segments, pieces)


def _forget(tar: tarfile.TarFile) -> None:
    """It would keep all members in memory."""
    tar.members.clear()  # type: ignore[attr-defined]


def tree_of(name: str) -> str:
    """The folder of people's files to which a member belongs: a project, a deleted one, `my-files`."""
    parts = name.split("/")
    return "/".join(parts[: 4 if parts[2:3] == [DELETED] else 3])


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise _bad(path, f"it is damaged, or not whole ({error})") from None


def set_time(info: tarfile.TarInfo, nanoseconds: int) -> None:
    """The exact time of a change, which tar's own field cannot hold."""
    info.mtime = nanoseconds // 10**9
    info.pax_headers = {
        **info.pax_headers,
        "mtime": f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}",
    }


def _nanoseconds(info: tarfile.TarInfo) -> int:
    found = re.fullmatch(r"(-?[0-9]{1,12})\.([0-9]{9})", str(info.pax_headers.get("mtime", "")))
    return int(found[1]) * 10**9 + int(found[2]) if found else int(info.mtime * 10**9)


def _note(digest: Any, info: tarfile.TarInfo) -> None:
    kind = "file" if info.sparse is not None else _KINDS[info.type]
    size = info.size if kind == "file" else 0
    link = info.linkname if kind in ("link", "name") else ""
    facts = [info.name, kind, info.mode, info.uid, info.gid, _nanoseconds(info), size, link]
    digest.update(json.dumps(facts, ensure_ascii=True).encode("ascii") + b"\n")


def _text(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=True).encode("ascii")


def _sparse_map(segments: tuple[Segment, ...], size: int) -> bytes:
    """See the manual of GNU tar, "Storing Sparse Files", PAX format 1.0. A hole at the end is told by one
    without data after it."""
    if not segments or sum(segments[-1]) < size:
        segments = (*segments, (size, 0))
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    text = "".join(f"{number}\n" for number in numbers).encode("ascii")
    return text + bytes(-len(text) % tarfile.BLOCKSIZE)


def _bad(path: Path, why: str) -> BadBackup:
    return BadBackup(f"{path} cannot be used: {why}.", "Copy the file once more, or take another backup.")


class _Stream(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._waiting = memoryview(piece)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


class _Counting(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        super().__init__()
        self._file = file
        self._on_bytes = on_bytes

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._on_bytes(len(data))
        return data
