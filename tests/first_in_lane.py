"""The first process of a lane (lanes.py): gives it files and a Docker, buries what ends, tells what is left.

`first_in_lane.py FOLDER DESCRIPTOR`: the socket tells it `go` when there is a network, then `end`; it says
when it is ready, and what is not as before. The standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "installer"), str(ROOT / "tests")]

import lanes  # noqa: E402
from leftovers import difference, docker_things, left_processes  # noqa: E402
from steps import base_image, engine  # noqa: E402
from steps.console import Console, Step, StepFailed  # noqa: E402
from steps.person import Person  # noqa: E402
from steps.site import Site  # noqa: E402

# Where the machine's root lies for a moment.
_BEFORE = ".before-lane"


def main(folder: Path, talk: socket.socket) -> None:
    """Until it is asked to end, or nobody is there any more. Raises `StepFailed`."""
    if talk.recv(64) != b"go\n":
        return
    _change_root(folder)
    root = Person("root", 0, 0, Path(os.environ.get("HOME", "/root")))
    site = Site(root, ROOT / "tests" / ".state", Path(sys.prefix), ROOT, dict(os.environ))
    docker = engine.Engine(site)
    console = Console(total=2)
    try:
        console.do("Docker engine", docker.ensure)
        console.do("Debian base image", lambda step: _load(site, step, folder.parent / "debian.tar"))
        before = docker_things()
        _tell(talk, {})
        asked = _until_asked(talk, docker.processes)
        if asked is not None:
            left = difference(before, docker_things()) + left_processes(docker.processes, asked)
    finally:
        if docker.started_by_us:
            console.do_uncounted("Stopping Docker", docker.stop)
    if asked is not None:
        _tell(talk, {"left": left})


def _load(site: Site, step: Step, saved: Path) -> str:
    lanes.docker("load", "--quiet", "--input", str(saved), env=site.root_env)
    return base_image.image_name(site.release)


def _change_root(folder: Path) -> None:
    """A layer of its own over the machine's files; its own /proc, /sys, /run, /tmp and Docker's data."""
    disk = folder / "disk"
    lanes.run("mount", "-o", "loop", str(folder / "disk.ext4"), str(disk))
    for name in ("root", "docker", "containerd", "tmp"):
        (disk / name).mkdir()
    (disk / "tmp").chmod(0o1777)
    root = disk / "root"
    _layer(Path("/"), disk / "machine", root)
    # The layer above does not see mounts, and the checkout may lie in one.
    (root / ROOT.relative_to("/")).mkdir(parents=True, exist_ok=True)
    _layer(ROOT, disk / "checkout", root / ROOT.relative_to("/"))
    lanes.run("mount", "-t", "proc", "proc", f"{root}/proc")
    lanes.run("mount", "-t", "sysfs", "sysfs", f"{root}/sys")
    lanes.run("mount", "--rbind", "/sys/fs/cgroup", f"{root}/sys/fs/cgroup")
    lanes.run("mount", "--rbind", "/dev", f"{root}/dev")
    lanes.run("mount", "-t", "tmpfs", "-o", "mode=1777", "shm", f"{root}/dev/shm")
    lanes.run("mount", "-t", "tmpfs", "-o", "mode=755", "run", f"{root}/run")
    for name, place in (("docker", "var/lib/docker"), ("containerd", "var/lib/containerd"), ("tmp", "tmp")):
        (root / place).mkdir(parents=True, exist_ok=True)
        lanes.run("mount", "--bind", str(disk / name), str(root / place))
    (root / "run/lock").mkdir()
    (root / lanes.TEMPORARY.relative_to("/")).mkdir(mode=0o700)
    _name_servers(root)
    lanes.run("ip", "link", "set", "lo", "up")
    # Its containers go through it to the outside; a namespace inherits this from the machine.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    (root / _BEFORE).mkdir()
    os.chdir(root)
    lanes.run("pivot_root", ".", _BEFORE)
    os.chdir("/")
    lanes.run("umount", "--lazy", f"/{_BEFORE}")
    Path("/", _BEFORE).rmdir()
    os.chdir(ROOT)


def _layer(below: Path, folder: Path, place: Path) -> None:
    """What is in `below`, at `place`; what is written there goes to `folder`."""
    for name in ("upper", "work"):
        (folder / name).mkdir(parents=True)
    layers = f"lowerdir={below},upperdir={folder}/upper,workdir={folder}/work"
    lanes.run("mount", "-t", "overlay", "overlay", "-o", layers, str(place))


def _name_servers(root: Path) -> None:
    """A name server on the machine's loopback is out of reach; slirp4netns passes questions on to it."""
    text = Path("/etc/resolv.conf").read_text()
    listed = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
    if any(address.startswith("127.") or address == "::1" for address in listed):
        text = "nameserver 10.0.2.3\n"
    # It may be a link into /run, which is another one in the lane.
    place = root / "etc/resolv.conf"
    place.unlink(missing_ok=True)
    place.write_text(text)


def _until_asked(talk: socket.socket, known: set[int]) -> float | None:
    """Bury orphans until we are to end; the seconds of grace, or None if nobody is there any more."""
    talk.settimeout(0.2)
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in known:
                    break
                os.waitpid(ended.si_pid, 0)
        with contextlib.suppress(TimeoutError):
            word, _, seconds = talk.recv(64).decode().partition(" ")
            return float(seconds) if word == "end" else None


def _tell(talk: socket.socket, what: Mapping[str, object]) -> None:
    talk.settimeout(None)
    talk.sendall(f"{json.dumps(what)}\n".encode())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
    except StepFailed as failed:
        sys.exit("\n".join([failed.what, *failed.tail]))
