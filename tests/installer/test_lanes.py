"""The machines in which `tests/run` lets its workers run: what is done in one is seen nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import lanes
import pytest
from lanes import Lane, how_many
from steps import base_image
from steps.console import Step, StepFailed
from steps.site import Site

ROOT = Path(__file__).resolve().parents[2]
GIB = 1024**3
# What one sees and does in there, as JSON.
LOOK = """
import json, os, socket, subprocess, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
    reached = True
except ConnectionRefusedError:
    reached = False
for place in ("tests/.state/written", "/tmp/written", "/etc/written"):
    open(place, "w").close()
def ask(*command):
    return subprocess.run(["docker", *command], capture_output=True, text=True, check=True).stdout.split()
print(json.dumps({
    "where": os.getcwd(), "first": open("/proc/1/cmdline").read().split("\\0")[1], "reached": reached,
    "containers": ask("ps", "-aq"), "images": ask("images", "--format", "{{.Repository}}:{{.Tag}}"),
}))
"""
FORGET = """
import subprocess
subprocess.run(["docker", "create", "--name", "forgotten", "littlest-binder/debian:bookworm"], check=True)
subprocess.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"], check=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A lane sees the checkout, and has a /tmp of its own."""
    with tempfile.TemporaryDirectory(prefix="lanes-", dir=ROOT / "tests" / ".state") as made:
        yield Path(made)


@pytest.fixture
def lane(site: Site, step: Step, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lane]:
    monkeypatch.setattr(lanes, "_DISK_BYTES", 4 * GIB)
    lanes.save(site, step, folder / "debian.tar")
    with Lane(folder / "1", Path(sys.executable), site.root_env) as made:
        made.wait_until_ready()
        yield made


def run(lane: Lane, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(lane.python), "-c", code, *arguments],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.docker
def test_what_is_done_in_a_lane_is_seen_nowhere_else(lane: Lane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        seen = json.loads(run(lane, LOOK, str(ours.getsockname()[1])))
    assert seen["where"] == str(ROOT)
    assert seen["first"].endswith("first_in_lane.py")
    assert not seen["reached"], "it reached what listens on this machine's loopback"
    assert seen["containers"] == []
    assert seen["images"] == [base_image.image_name("bookworm")]
    for place in (ROOT / "tests" / ".state", Path("/tmp"), Path("/etc")):
        assert not (place / "written").exists()
    assert lane.end() == []


@pytest.mark.docker
def test_what_tests_forget_in_a_lane_is_told(lane: Lane) -> None:
    run(lane, FORGET)
    left = lane.end(grace_s=1)
    assert [line for line in left if "container" in line and "forgotten" in line]
    assert [line for line in left if "process" in line and "sleep 1000" in line]
    assert len(left) == 2


@pytest.mark.docker
def test_a_lane_takes_its_processes_and_its_files_with_it(
    site: Site, step: Step, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_DISK_BYTES", 4 * GIB)
    lanes.save(site, step, folder / "debian.tar")
    with Lane(folder / "1", Path(sys.executable), site.root_env) as lane:
        lane.wait_until_ready()
        run(lane, FORGET)
        table = os.readlink(f"/proc/{lane.first}/ns/pid")
    assert not lane.folder.exists()
    assert [number for number in os.listdir("/proc") if number.isdigit() and _table(number) == table] == []
    assert str(lane.folder) not in subprocess.run(["losetup"], capture_output=True, text=True).stdout


def _table(process: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/ns/pid")
    return ""


def test_one_that_cannot_be_made_says_why_and_leaves_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_DISK_BYTES", 4096)
    with pytest.raises(StepFailed, match="mkfs") as refused, Lane(tmp_path / "1", Path("/bin/true"), {}):
        pass
    assert "--lanes 0" in refused.value.next_step
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("processors", "memory", "disk", "count", "why"),
    [
        (2, 23, 66, 2, "2 processors"),
        (16, 63, 66, 4, "free disk"),
        (16, 12, 66, 2, "memory"),
        (16, 8, 66, 0, "memory"),
        (1, 64, 66, 0, "1 processors"),
        (4, 64, 20, 0, "free disk"),
    ],
)
def test_there_are_as_many_as_the_machine_carries(
    monkeypatch: pytest.MonkeyPatch, processors: int, memory: int, disk: int, count: int, why: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(lanes, "available_memory", lambda: memory * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=disk * GIB))
    found, because = how_many(Path("/"))
    assert (found, why in because) == (count, True), because
