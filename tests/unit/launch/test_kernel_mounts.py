"""The kernel's list of mounts against what was asked for; every difference is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import MountsDiffer, MountUnsafe
from tljh_plugin.launch import kernel_mounts
from tljh_plugin.launch.host_folders import Folder, MountLine
from tljh_plugin.launch.kernel_mounts import Asked, differences

CONTAINER, VOLUME = "c" * 64, "d" * 64
INSPECT: dict[str, Any] = {
    "Id": CONTAINER,
    "State": {"Pid": 42},
    "Mounts": [{"Type": "volume", "Name": VOLUME, "Destination": "/var/cache"}],
}
ASKED = [
    Asked(Folder("/srv/lab", (), "8:1", "/lab"), "/data/lab", read_only=True),
    Asked(Folder("/state/home", (), "8:2", "/home"), "/home/jovyan", read_only=False),
]
LIST = f"""\
135 83 0:50 / / rw,relatime master:4 - overlay overlay rw
136 135 0:53 / /proc rw,nosuid - proc proc rw
113 136 0:54 /null /proc/keys rw,nosuid - tmpfs tmpfs rw
137 135 0:54 / /dev rw,nosuid - tmpfs tmpfs rw
139 135 0:55 / /sys ro - sysfs sysfs ro
152 135 254:0 /usr/bin/tini-static /usr/sbin/docker-init ro,relatime - ext4 /dev/vda rw
153 135 8:2 /home /home/jovyan rw,relatime - ext4 /dev/vdb rw
154 135 8:1 /lab /data/lab ro,relatime - ext4 /dev/vdc rw
155 135 254:0 /var/lib/docker/containers/{CONTAINER}/resolv.conf /run/stub.conf rw - ext4 /dev/vda rw
156 135 254:0 /var/lib/docker/volumes/{VOLUME}/_data /var/cache rw - ext4 /dev/vda rw
"""


def lines(text: str) -> list[MountLine]:
    return [MountLine.parse(line) for line in text.splitlines()]


def test_what_was_asked_for_is_no_difference() -> None:
    assert differences(lines(LIST), ASKED, INSPECT) == []


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("8:1 /lab /data", "8:1 /etc /data", "at /data/lab is /etc of the file system 8:1, not /srv/lab"),
        ("8:1 /lab /data", "8:9 /lab /data", "file system 8:9"),
        ("8:1 /lab /data", "8:1 /lab//deleted /data", "is /lab of"),
        ("/data/lab ro", "/data/lab rw", "can be written, and was to be only read"),
        ("/home/jovyan rw", "/home/jovyan ro", "can be only read, and was to be written"),
        ("/data/lab ro", "/srv/lab ro", "nothing is mounted at /data/lab; /lab is mounted at /srv/lab"),
        (VOLUME, "e" * 64, "is mounted at /var/cache, which nobody asked for"),
        (CONTAINER, "f" * 64, "is mounted at /run/stub.conf, which nobody asked for"),
        ("docker-init ro", "docker-init rw", "docker-init"),
        ("156 ", "160 135 8:1 / /host rw - ext4 /dev/vdc rw\n156 ", "/ is mounted at /host"),
        ("156 ", "160 135 8:1 /x /data/lab/x rw - ext4 /dev/vdc rw\n156 ", "/x is mounted at /data/lab/x"),
        ("156 ", "160 154 8:1 /x /data/lab ro - ext4 /dev/vdc rw\n156 ", "2 things are mounted"),
    ],
)
def test_every_difference_is_told(old: str, new: str, shown: str) -> None:
    assert old in LIST
    assert shown in "; ".join(differences(lines(LIST.replace(old, new)), ASKED, INSPECT))


async def test_a_process_that_is_not_the_containers_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "mountinfo").write_text(LIST)
    assert kernel_mounts.lines_of(INSPECT, tmp_path) == lines(LIST)
    assert kernel_mounts.lines_of({**INSPECT, "Id": "0" * 64}, tmp_path) is None
    assert kernel_mounts.lines_of({**INSPECT, "State": {"Pid": 0}}, tmp_path) is None

    monkeypatch.setattr(kernel_mounts, "lines_of", lambda _: lines(LIST))
    assert await kernel_mounts.check(INSPECT, ASKED, must_see=True)
    with pytest.raises(MountsDiffer, match="/data/lab"):
        await kernel_mounts.check(INSPECT, ASKED[1:], must_see=True)
    monkeypatch.setattr(kernel_mounts, "lines_of", lambda _: None)
    assert not await kernel_mounts.check(INSPECT, ASKED, must_see=False)
    with pytest.raises(MountUnsafe, match="cannot be read"):
        await kernel_mounts.check(INSPECT, ASKED, must_see=True)
