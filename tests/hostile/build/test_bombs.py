"""Whole builds that unpack far more than they weigh, against the reserve of free disk."""

from __future__ import annotations

import gzip
import io
import os
import secrets
import struct
import subprocess
import tarfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from installation_parts import Parts, settings_for, visited
from package_index import PackageIndex
from waiting import until

from tljh_plugin.build.archives import unpacked_bytes
from tljh_plugin.build.base import ensure_base
from tljh_plugin.errors import DockerfileRefused

pytestmark = [pytest.mark.docker, pytest.mark.attack("build: bombs")]

MIB = 1024**2
ROOM = 500 * MIB  # what a build may take here
UNPACKED = 10 * 1024**3  # and what a bomb would
STEP = 128 * MIB


def free() -> int:
    """Bytes on Docker's disk."""
    root = subprocess.check_output(["docker", "info", "--format={{.DockerRootDir}}"], text=True).strip()
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def wheel_bomb(name: str) -> dict[str, bytes]:
    """A wheel of many large files of zeros, which are compressed once."""
    content = bytes(STEP)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed, crc = packer.compress(content) + packer.flush(), zlib.crc32(content)
    info = f"{name}-1.0.dist-info"
    texts = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    members = [
        (path, text.encode(), text.encode(), 0, zlib.crc32(text.encode())) for path, text in texts.items()
    ]
    members += [(f"{name}/{n}.bin", packed, content, 8, crc) for n in range(UNPACKED // STEP)]
    data, directory = io.BytesIO(), b""
    for path, stored, whole, method, check in members:
        facts = struct.pack("<3H2H3I2H", 20, 0, method, 0, 33, check, len(stored), len(whole), len(path), 0)
        directory += b"PK\1\2" + struct.pack("<H", 20) + facts
        directory += struct.pack("<3H2I", 0, 0, 0, 0o100644 << 16, data.tell()) + path.encode()
        data.write(b"PK\3\4" + facts + path.encode() + stored)
    begin = data.tell()
    data.write(directory)
    data.write(b"PK\5\6" + struct.pack("<4H2IH", 0, 0, len(members), len(members), len(directory), begin, 0))
    return {f"{name}-1.0-py3-none-any.whl": data.getvalue()}


def tar_bomb() -> bytes:
    """A compressed archive of one file of zeros, compressed once: gzip's members follow each other."""
    entry = tarfile.TarInfo("zeros.bin")
    entry.size = UNPACKED
    return gzip.compress(entry.tobuf(), 1) + gzip.compress(bytes(STEP), 6) * (UNPACKED // STEP)


@asynccontextmanager
async def little_room(state: Path, git_server: GitServer) -> AsyncIterator[tuple[Parts, int]]:
    """An installation whose builds may take a little of the disk; and what is free before them."""
    policy = {**git_server.settings(), "dockerfile": "everyone"}
    sections: dict[str, Any] = {"policy": policy, "servers": {"uid": 1000, "gid": 1000}}
    await ensure_base(settings_for(state, sections), lambda _: None)
    before = free()
    sections["build"] = {"disk_reserve_bytes": before - ROOM}
    settings = settings_for(state, sections)
    async with visited(settings) as parts:
        yield parts, before


async def test_a_wheel_bomb(tmp_path: Path, git_server: GitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"boom{secrets.token_hex(4)}"
    git_server.new("bomb", {"requirements.txt": f"{name}==1.0\n"})
    with PackageIndex(wheel_bomb(name)) as index:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{index.address}/simple")
        monkeypatch.setenv("PIP_TRUSTED_HOST", index.address.partition(":")[0])
        async with little_room(tmp_path / "state", git_server) as (parts, before):
            view = await parts.build(git_server.spec("bomb"))
            assert view.error is not None
            assert view.error.code == "disk-low", view.error
            await until(lambda: free() > before - ROOM // 2)


@pytest.mark.parametrize("line", ["ADD bomb.tar.gz /tmp/", "ADD b*.gz ./", 'ADD ["bomb.tar.gz", "/tmp/"]'])
async def test_an_archive_bomb(tmp_path: Path, git_server: GitServer, line: str) -> None:
    """Docker unpacks it, and goes on when the build is ended; so it is measured before."""
    git_server.new("bomb", {"Dockerfile": f"FROM littlest-binder/base\n{line}\n", "bomb.tar.gz": tar_bomb()})
    async with little_room(tmp_path / "state", git_server) as (parts, _):
        view = await parts.build(git_server.spec("bomb"))
        assert view.error is not None
        assert view.error.code == "dockerfile-refused", view.error
        assert "unpack more than 4 GiB, with bomb.tar.gz" in view.error.message


@pytest.mark.parametrize("kind", ["sparse", "many", "gz in gz"])
def test_what_an_archive_unpacks_to_is_told(kind: str, tmp_path: Path) -> None:
    """Holes are filled in; an archive in an archive stays one."""
    place = tmp_path / "a.tar"
    if kind == "sparse":
        with (tmp_path / "holes").open("wb") as holes:
            holes.truncate(UNPACKED)
        subprocess.run(["tar", "--sparse", "-cf", place, "-C", tmp_path, "holes"], check=True)
        assert place.stat().st_size < MIB
    else:
        with tarfile.open(place, "w:gz") as archive:
            for n in range(100):
                content = gzip.compress(bytes(MIB)) if kind == "gz in gz" else bytes(MIB)
                entry = tarfile.TarInfo(f"{n}.gz")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    found = unpacked_bytes(place, 50 * MIB)
    assert (found > 50 * MIB) == (kind != "gz in gz")


def test_what_is_no_archive_unpacks_to_nothing(tmp_path: Path) -> None:
    place = tmp_path / "file"
    for content in (b"", b"x" * 5000, b"\x1f\x8b\x08broken", gzip.compress(b"no archive" * 1000)):
        place.write_bytes(content)
        assert unpacked_bytes(place, 10**9) == 0
    place.write_bytes(b"\x28\xb5\x2f\xfd0000")
    with pytest.raises(DockerfileRefused, match="cannot be told"):
        unpacked_bytes(place, 10**9)
