"""What a container is given before it starts: archives that name another owner, and a name for its user."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import docker.errors
import pytest

from tljh_plugin.engine import ContainerSpec, Limits, ownership
from tljh_plugin.errors import ContainerNotStarted

LIMITS = Limits(2001, 2002, (), 1 << 30, 1, 256, 1 << 20, 1 << 20)
LONG = "x" * 90 + "/" + "é" * 60
BIG = bytes(range(256)) * 8000


def spec(**more: Any) -> ContainerSpec:
    given = {"environment": {"HOME": "/home/jovyan"}, **more}
    return ContainerSpec(image="image", command=(), limits=LIMITS, kind="server", **given)


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as made:
        for entry, content in entries:
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.uid, made.gid, made.uname, made.gname = kind, 1000, 1000, "jovyan", "jovyan"
    for key, value in more.items():
        setattr(made, key, value)
    return made


def pieces(content: bytes, size: int = 1000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


class Container:
    """Of Docker's archives: what was taken and given."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.given: dict[str, bytes] = {}

    def get_archive(self, container: str, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        if path not in self.files:
            raise docker.errors.NotFound(path)
        return pieces(self.files[path]), {}

    def put_archive(self, container: str, path: str, data: Any) -> bool:
        self.given[path] = data if isinstance(data, bytes) else data.read()
        return True


def test_everything_gets_the_owner_and_stays_what_it_was() -> None:
    capability = {"SCHILY.xattr.user.note": "kept", "uid": "3000000000", "mtime": "12.5"}
    before = archive(
        (entry("home", tarfile.DIRTYPE, mode=0o755), b""),
        (entry("home/big", mode=0o640, mtime=12.5, pax_headers=capability, uid=3_000_000_000), BIG),
        (entry(f"home/{LONG}", mode=0o600), b"odd"),
        (entry("home/link", tarfile.SYMTYPE, linkname="../../etc"), b""),
        (entry("home/again", tarfile.LNKTYPE, linkname="home/big"), b""),
        (entry("home/empty"), b""),
    )
    after = b"".join(ownership.given(pieces(before, 777), 2**31, 5))
    with tarfile.open(fileobj=io.BytesIO(after)) as found, tarfile.open(fileobj=io.BytesIO(before)) as was:
        members, earlier = found.getmembers(), was.getmembers()
        assert [each.name for each in members] == [each.name for each in earlier]
        for each, old in zip(members, earlier, strict=True):
            assert (each.uid, each.gid, each.uname, each.gname) == (2**31, 5, "", "")
            assert (each.type, each.mode, each.linkname, each.mtime, each.size) == (
                (old.type, old.mode, old.linkname, old.mtime, old.size)
            )
        big = found.extractfile("home/big")
        assert big is not None
        assert big.read() == BIG
        assert members[1].pax_headers["SCHILY.xattr.user.note"] == "kept"


def test_a_home_is_given_where_it_was() -> None:
    client = Container({"/home/jovyan": archive((entry("jovyan", tarfile.DIRTYPE), b""))})
    ownership.own(client, "c", spec(owned="/home/jovyan", owned_bytes=10_000_000))
    with tarfile.open(fileobj=io.BytesIO(client.given["/home"])) as found:
        assert [(each.name, each.uid, each.gid) for each in found] == [("jovyan", 2001, 2002)]


def test_a_home_that_is_too_large_starts_nothing() -> None:
    client = Container({"/home/jovyan": archive((entry("jovyan/big"), BIG))})
    with pytest.raises(ContainerNotStarted, match=r"more than 1(\.0)? MiB"):
        ownership.own(client, "c", spec(owned="/home/jovyan", owned_bytes=1024**2))
    assert client.given == {}


PASSWD = b"root:x:0:0:root:/root:/bin/bash\njovyan:x:1000:1000::/home/jovyan:/bin/bash"


def named(content: bytes | None, **more: Any) -> bytes | None:
    client = Container({"/etc/passwd": archive((entry("passwd"), content))} if content is not None else {})
    ownership.name_user(client, "c", spec(**{"account": "lab-ada", **more}))
    if "/etc" not in client.given:
        return None
    with tarfile.open(fileobj=io.BytesIO(client.given["/etc"])) as found:
        (only,) = found.getmembers()
        assert (only.name, only.uid, only.gid, only.mode) == ("passwd", 0, 0, 0o644)
        content_of = found.extractfile(only)
        assert content_of is not None
        return content_of.read()


def test_a_user_whom_the_image_does_not_know_gets_a_line() -> None:
    row = b"lab-ada:x:2001:2002::/home/jovyan:/bin/bash\n"
    assert named(PASSWD) == PASSWD + b"\n" + row
    assert named(PASSWD + b"\n") == PASSWD + b"\n" + row
    assert named(b"") == row


def test_what_the_image_knows_stays() -> None:
    assert named(b"somebody:x:2001:9::/:/bin/sh\n") is None
    assert named(b"lab-ada:x:7:7::/:/bin/sh\n") is None


@pytest.mark.parametrize("more", [{"account": "a:0:0"}, {"account": "a\nroot::0:0"}])
def test_a_name_that_would_be_more_than_a_name_is_none(more: dict[str, str]) -> None:
    assert named(PASSWD, **more) is None


def test_a_link_in_its_place_and_a_file_without_end_are_left_alone() -> None:
    client = Container({"/etc/passwd": archive((entry("passwd", tarfile.SYMTYPE, linkname="/x"), b""))})
    ownership.name_user(client, "c", spec(account="lab-ada"))
    assert client.given == {}
    assert named(b"x" * (1024**2 + 1)) is None
    with pytest.raises(docker.errors.NotFound):
        named(None)
