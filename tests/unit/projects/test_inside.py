"""The programs that run in containers, here without one: a home through the pipe, and streams that lie."""

from __future__ import annotations

import asyncio
import io
import json
import os
import runpy
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.projects.stream import END, MAGIC, file, folder, further_name, link, skipped
from waiting import until

from tljh_plugin.projects import inside
from tljh_plugin.projects.staging import script

GIB = 1024**3


@pytest.fixture
def into(tmp_path: Path) -> Path:
    made = tmp_path / "into"
    made.mkdir()
    return made


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    made = tmp_path / "pipe"
    os.mkfifo(made)
    return made


def program(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", "-S", "-B", "-c", script(name), *map(str, arguments)]


def receive(pipe: Path, into: Path, *, max_bytes: int = GIB, entries: int = 1000, reserve: int = 0) -> Any:
    ended = subprocess.run(
        program("receive.py", pipe, into, max_bytes, entries, reserve),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ended.stderr == b""
    return json.loads(ended.stdout)


def copy(home: Path, pipe: Path, into: Path, **limits: int) -> Any:
    with subprocess.Popen(program("send.py", home, pipe)) as sender:
        said = receive(pipe, into, **limits)
    assert sender.returncode in (0, 1)
    return said


def tell(stream: bytes, pipe: Path, into: Path, **limits: int) -> Any:
    """What the receiver says to a stream that somebody made up."""

    def write() -> None:
        try:
            pipe.write_bytes(stream)
        except BrokenPipeError:
            return

    writer = threading.Thread(target=write)
    writer.start()
    said = receive(pipe, into, **limits)
    writer.join()
    return said


@pytest.mark.parametrize("name", ["send.py", "receive.py"])
async def test_both_sides_let_others_go_first(name: str, tmp_path: Path, pipe: Path, into: Path) -> None:
    arguments = (tmp_path, pipe) if name == "send.py" else (pipe, into, GIB, 1000, 0)
    wanted = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    waiting = await asyncio.create_subprocess_exec(*program(name, *arguments))  # for the pipe's other end
    try:
        await until(lambda: os.getpriority(os.PRIO_PROCESS, waiting.pid) == wanted)
    finally:
        waiting.kill()
        await waiting.wait()


def test_the_disk_begins_long_before_the_end(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = runpy.run_path(str(Path(inside.__file__).with_name("receive.py")))
    begun: list[int] = []
    receiver = names["Receiver"](str(into), GIB, 1000, 0)
    monkeypatch.setattr(
        receiver, "_library", SimpleNamespace(sync_file_range=lambda *_: begun.append(receiver.written))
    )
    mib = 1024 * 1024
    content = os.urandom(mib)
    chunks = [(number * mib, content) for number in range(20)]
    receiver.receive(names["Stream"](io.BytesIO(MAGIC + file(b"large", *chunks) + END)))
    assert begun == [8 * mib, 16 * mib]
    assert (into / "large").read_bytes() == content * 20


def listing(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every entry with its kind, mode, time and content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        content: Any = None
        if stat.S_ISLNK(facts.st_mode):
            found[str(path.relative_to(root))] = ("link", os.readlink(path))
            continue
        if stat.S_ISREG(facts.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (stat.filemode(facts.st_mode), facts.st_mtime_ns, content)
    return found


# -- an honest home ----------------------------------------------------------------------------------------


def test_a_home_arrives_as_it_was(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    (home / "a folder" / "deeper").mkdir(parents=True)
    (home / "a folder" / "read me.txt").write_text("hello\n")
    (home / "a folder" / "deeper" / "run.sh").write_text("#!/bin/sh\n")
    (home / "a folder" / "deeper" / "run.sh").chmod(0o755)
    (home / "empty").write_text("")
    (home / "read-only").write_text("kept")
    (home / "read-only").chmod(0o444)
    (home / "large").write_bytes(os.urandom(3 * 1024 * 1024 + 17))
    (home / "link").symlink_to("a folder/read me.txt")
    (home / "outside").symlink_to("/etc/passwd")
    (home / "dangling").symlink_to("nowhere")
    (home / "private").mkdir(mode=0o700)
    os.utime(home / "a folder" / "read me.txt", ns=(1, 1_000_000_001))
    os.utime(home / "a folder", ns=(1, 2_000_000_002))
    said = copy(home, pipe, into)
    assert listing(into) == listing(home)
    assert (said["ok"], said["entries"], said["skipped"]) == (True, 11, 0)
    assert said["bytes"] >= 3 * 1024 * 1024


def test_names_of_any_bytes_arrive(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    names = {b"\xff\xfe", "Ä ö\nü".encode(), b"*?[", b"-rf", b"x" * 255, b" ", b"..."}
    for name in names:
        (home / os.fsdecode(name)).write_bytes(name)
    assert copy(home, pipe, into)["ok"]
    assert set(os.listdir(os.fsencode(into))) == names


def test_holes_stay_holes(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "sparse").open("wb") as sparse:
        sparse.seek(500 * 1024 * 1024)
        sparse.write(b"middle")
        sparse.truncate(GIB)
    said = copy(home, pipe, into, max_bytes=10 * 1024 * 1024)
    facts = (into / "sparse").stat()
    assert said["ok"]
    assert facts.st_size == GIB
    assert facts.st_blocks * 512 < 1024 * 1024
    with (into / "sparse").open("rb") as arrived:
        arrived.seek(500 * 1024 * 1024 - 1)
        assert arrived.read(8) == b"\0middle\0"


def test_written_zeros_take_no_room(tmp_path: Path, pipe: Path, into: Path) -> None:
    """As a sparse file is after a registry carried it."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "zeros").write_bytes(bytes(5 * 1024 * 1024) + b"end")
    assert copy(home, pipe, into, max_bytes=100_000)["ok"]
    assert listing(into) == listing(home)


def test_one_file_of_two_names_stays_one(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (home / "one").write_bytes(b"x" * 700_000)
    os.link(home / "one", home / "sub" / "two")
    said = copy(home, pipe, into, max_bytes=1_000_000)
    assert said["ok"]
    assert (into / "one").stat().st_ino == (into / "sub" / "two").stat().st_ino


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.mkfifo(home / "pipe")
    (home / "set-id").write_text("x")
    (home / "set-id").chmod(0o6755)
    said = copy(home, pipe, into)
    assert said["ok"]
    assert listing(into).keys() == {"set-id"}
    assert (into / "set-id").stat().st_mode & 0o7777 == 0o755
    assert said["skipped_names"] == ["pipe: neither file, folder nor link"]


def test_an_image_without_that_home_gives_an_empty_one(tmp_path: Path, pipe: Path, into: Path) -> None:
    assert copy(tmp_path / "missing", pipe, into)["ok"]
    assert listing(into) == {}


def test_a_home_beyond_the_limit_is_refused(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for number in range(4):
        (home / str(number)).write_bytes(b"x" * 1_000_000)
    said = copy(home, pipe, into, max_bytes=2_500_000)
    assert (said["ok"], said["error"]) == (False, "too-large")


def test_too_many_files_are_refused(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for number in range(20):
        (home / str(number)).write_text("")
    assert copy(home, pipe, into, entries=10)["error"] == "too-many"


def test_a_disk_that_is_almost_full_is_not_filled_up(tmp_path: Path, pipe: Path, into: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "x").write_text("x")
    assert copy(home, pipe, into, reserve=2**60)["error"] == "disk-low"


# -- streams that lie --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/etc/x",
        b"../x",
        b"a/../../x",
        b".",
        b"..",
        b"a//b",
        b"a/",
        b"./a",
        b"a\0b",
        b"x/" * 2500 + b"x",
    ],
)
@pytest.mark.parametrize(
    "kind", [folder, file, lambda path: link(path, b"t"), lambda path: further_name(path, b"a")]
)
def test_no_path_leads_out(kind: Any, path: bytes, pipe: Path, into: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    said = tell(MAGIC + file(b"a") + kind(path) + END, pipe, into)
    assert (said["ok"], said["error"]) == (False, "stream")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "through",
    [
        file(b"out/x", (0, b"evil")),
        folder(b"out/x"),
        link(b"out/x", b"y"),
        further_name(b"mine", b"out/victim"),
        further_name(b"out/x", b"a"),
    ],
)
def test_nothing_goes_through_a_link(through: bytes, pipe: Path, into: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    said = tell(MAGIC + file(b"a") + link(b"out", os.fsencode(outside)) + through + END, pipe, into)
    assert said["ok"] is False
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").stat().st_nlink == 1


def test_nothing_is_overwritten(pipe: Path, into: Path) -> None:
    for again in (file(b"a", (0, b"new")), folder(b"a"), link(b"a", b"b"), further_name(b"a", b"b")):
        for entry in into.iterdir():
            entry.unlink()
        said = tell(MAGIC + file(b"a", (0, b"old")) + file(b"b") + again + END, pipe, into)
        assert said["ok"] is False
        assert (into / "a").read_bytes() == b"old"


def test_a_further_name_of_a_link_is_refused(pipe: Path, into: Path) -> None:
    said = tell(MAGIC + link(b"a", b"/etc/passwd") + further_name(b"b", b"a") + END, pipe, into)
    assert said["ok"] is False
    assert not (into / "b").exists()


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6777, 0o1777, 0o177777])
def test_no_set_id_bit_arrives(mode: int, pipe: Path, into: Path) -> None:
    said = tell(MAGIC + file(b"f", (0, b"x"), mode=mode) + folder(b"d", mode) + END, pipe, into)
    assert said["ok"]
    assert not (into / "f").stat().st_mode & 0o7000
    assert not (into / "d").stat().st_mode & 0o7000


def test_a_locked_folder_can_still_be_entered_by_its_owner(pipe: Path, into: Path) -> None:
    assert tell(MAGIC + folder(b"d", 0) + file(b"d/f", (0, b"x"), mode=0) + END, pipe, into)["ok"]
    assert (into / "d").stat().st_mode & 0o777 == 0o700
    assert (into / "d" / "f").stat().st_mode & 0o777 == 0o400


def test_twenty_gibibytes_of_nothing_take_no_room(pipe: Path, into: Path) -> None:
    said = tell(MAGIC + file(b"f", size=20 * GIB) + END, pipe, into, max_bytes=1_000_000)
    assert said["ok"]
    assert (into / "f").stat().st_size == 20 * GIB
    assert (into / "f").stat().st_blocks * 512 < 100_000


def test_an_endless_file_ends_at_the_limit(pipe: Path, into: Path) -> None:
    chunk = b"x" * 1_000_000
    chunks = [(number * 1_000_000, chunk) for number in range(50)]
    said = tell(MAGIC + file(b"f", *chunks, size=2**60, end=False), pipe, into, max_bytes=5_000_000)
    assert said["error"] in ("too-large", "stream")  # some file systems have no such sizes
    assert sum(path.stat().st_blocks * 512 for path in into.iterdir()) <= 5_100_000


def test_writing_one_place_again_and_again_ends_at_the_limit(pipe: Path, into: Path) -> None:
    chunks = [(0, b"x" * 1_000_000)] * 50
    said = tell(MAGIC + file(b"f", *chunks, end=False), pipe, into, max_bytes=5_000_000)
    assert said["error"] == "too-large"


@pytest.mark.parametrize("size", [2**63, 2**64 - 1])
def test_sizes_that_no_file_has_are_refused(size: int, pipe: Path, into: Path) -> None:
    said = tell(MAGIC + file(b"f", size=size) + END, pipe, into)
    assert (said["ok"], said["error"]) == (False, "stream")


def test_the_largest_size_is_a_hole_or_refused(pipe: Path, into: Path) -> None:
    """A tmpfs takes it."""
    said = tell(MAGIC + file(b"f", size=2**63 - 1) + END, pipe, into)
    assert (said["bytes"] == 0) if said["ok"] else (said["error"] == "stream")


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"hello",
        MAGIC,
        MAGIC + b"X",
        MAGIC + b"F",
        MAGIC + b"F\xff\xff",
        MAGIC + file(b"f", (0, b"abc"), end=False),
        MAGIC + file(b"f", (5, b"abc"), size=6),
        MAGIC + file(b"f", (2**64 - 1, b"abc"), size=6),
        MAGIC + file(b"f", (0, b"x" * (1024 * 1024 + 1))),
        MAGIC + link(b"l", b""),
        MAGIC + link(b"l", b"a\0b"),
        MAGIC + folder(b"d") * 2 + END,
        MAGIC + file(b"missing/f") + END,
        MAGIC + folder(b"x" * 256) + END,
        b"\0" * 100_000,
    ],
)
def test_a_stream_that_is_wrong_or_broken_off_is_refused(stream: bytes, pipe: Path, into: Path) -> None:
    said = tell(stream, pipe, into)
    assert said["ok"] is False
    assert said["error"] in ("stream", "broken-off")


def test_what_is_told_to_be_skipped_is_bounded(pipe: Path, into: Path) -> None:
    stream = MAGIC + b"".join(skipped(b"\x1b\xff" * 2000, b"r" * 60000) for _ in range(200)) + END
    said = tell(stream, pipe, into)
    assert said["skipped"] == 200
    assert len(said["skipped_names"]) == 20
    assert len(json.dumps(said)) < 20_000


# -- what a broken-off fill has left ------------------------------------------------------------------------


def test_everything_below_a_folder_is_removed_but_nothing_behind_a_link(tmp_path: Path, into: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (into / "a" / "b" / "c").mkdir(parents=True)
    (into / "a" / "b" / "f").write_text("x")
    (into / "a" / "link").symlink_to(outside)
    (into / "file-link").symlink_to(outside / "kept")
    os.mkfifo(into / "a" / "fifo")
    deep = into
    for _ in range(900):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (into / "a" / "b").chmod(0)
    subprocess.run(program("empty.py", into), check=True)
    assert list(into.iterdir()) == []
    assert (outside / "kept").read_text() == "x"
