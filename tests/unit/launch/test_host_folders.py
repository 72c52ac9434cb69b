"""Folders of a real disk, walked step by step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tljh_plugin.errors import MountMissing, MountUnsafe
from tljh_plugin.launch.host_folders import MountLine, look, look_in

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes folders of other people")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "data" / "alice").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    return tmp_path


def test_a_folder_is_known_by_its_identity_and_its_place_on_the_disk(base: Path) -> None:
    found = look(str(base / "data") + "//alice/.")
    facts = (base / "data" / "alice").stat()
    assert found.path == str(base / "data" / "alice")
    assert found.chain[-1] == (facts.st_dev, facts.st_ino)
    assert len(found.chain) == len(Path(found.path).parts)
    lines = [MountLine.parse(line) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert found.device in [line.device for line in lines]
    assert found.root.endswith("/data/alice")
    assert not found.pseudo
    assert look("/").path == "/"
    assert look("/proc").pseudo


def test_links_are_followed_where_nobody_else_could_have_made_them(base: Path) -> None:
    (base / "disk").symlink_to("data")
    (base / "data" / "again").symlink_to(base / "secret" / ".." / "data" / "alice")
    for path in ("disk/alice", "disk/again", "data/again"):
        assert look(str(base / path)).path == str(base / "data" / "alice")
    with pytest.raises(MountUnsafe, match="is a link"):
        look(str(base / "disk"), links=False)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_link_in_a_folder_of_everybody_is_not_followed(base: Path, mode: int) -> None:
    (base / "data" / "bob").symlink_to(base / "secret")
    (base / "data").chmod(mode)
    with pytest.raises(MountUnsafe, match=f"{base}/data/bob is a link"):
        look(str(base / "data" / "bob"))


@only_root
def test_a_link_in_a_folder_of_the_servers_user_is_not_followed(base: Path) -> None:
    (base / "data" / "bob").symlink_to("/etc")
    os.chown(base / "data", 1000, 1000)
    with pytest.raises(MountUnsafe, match="is a link \\(to /etc\\)"):
        look(str(base / "data" / "bob"))


def test_a_circle_of_links_ends(base: Path) -> None:
    (base / "one").symlink_to("two")
    (base / "two").symlink_to("one")
    with pytest.raises(MountUnsafe, match="is a link"):
        look(str(base / "one"))


def test_what_is_no_folder_is_told(base: Path) -> None:
    (base / "file").touch()
    os.mkfifo(base / "pipe")
    for path, shown in (
        ("file", "is not a folder"),
        ("file/x", "Not a directory"),
        ("pipe", "is not a folder"),
        ("gone", "No such file"),
    ):
        with pytest.raises(MountMissing, match=shown):
            look(str(base / path))
    with pytest.raises(MountMissing, match="absolute"):
        look("data")


def test_a_persons_folder_is_never_a_link(base: Path) -> None:
    assert look_in(str(base / "data"), "alice").path == str(base / "data" / "alice")
    (base / "data" / "bob").symlink_to(base / "secret")
    with pytest.raises(MountUnsafe, match="is a link"):
        look_in(str(base / "data"), "bob")
    with pytest.raises(MountMissing, match="does not exist"):
        look_in(str(base / "data"), "carol")


def test_a_missing_folder_of_a_person_is_made_for_them_alone(base: Path) -> None:
    owner = (1000, 1000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    for _ in range(2):
        look_in(str(base / "data"), "carol", make_for=owner)
    facts = (base / "data" / "carol").stat()
    assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o700, *owner)


def test_no_folder_is_made_where_others_could_swap_it(base: Path) -> None:
    (base / "data").chmod(0o777)
    with pytest.raises(MountMissing, match="install -d") as caught:
        look_in(str(base / "data"), "carol", make_for=(1000, 1000))
    assert caught.value.next_step
    assert not (base / "data" / "carol").exists()


def test_no_descriptor_is_left_open(base: Path) -> None:
    (base / "file").touch()
    before = set(os.listdir("/proc/self/fd"))
    for path in ("data/alice", "gone", "file", "file/x"):
        try:
            look(str(base / path))
        except MountMissing:
            continue
    assert set(os.listdir("/proc/self/fd")) <= before  # what tests before this one left may be closed by now


def test_the_kernels_line_is_read_with_its_escapes() -> None:
    line = MountLine.parse(
        r"36 35 98:0 /mnt1\040a\134b /data/x\011y ro,noatime master:1 - ext3 /dev/root rw,errors=continue"
    )
    assert (line.id, line.device, line.root, line.place) == ("36", "98:0", "/mnt1 a\\b", "/data/x\ty")
    assert (line.read_only, line.file_system) == (True, "ext3")
