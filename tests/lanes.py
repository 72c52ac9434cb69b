"""Machines inside this machine, so that tests run side by side without meeting: `Lane`.

A lane sees this machine's files, and what it writes goes to a file system of its own that is thrown away. Its
network, processes and Docker are its own; it reaches the outside through slirp4netns. Each worker of
pytest-xdist runs in one: `Lane.python` is the interpreter to give it. Most tests wait for something, so two
lanes take little more than half the time of one. `first_in_lane.py` is what runs inside. The standard library
only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "installer"), str(ROOT / "tests")]

from leftovers import GRACE_S  # noqa: E402
from steps import base_image  # noqa: E402
from steps.console import Step, StepFailed  # noqa: E402
from steps.site import Site  # noqa: E402

# The file system of a lane; sparse, so that it takes what is written. The installer's tests need most of it.
_DISK_BYTES = 40 * 1024**3
# What a lane has written at its end, and the memory it takes at most, with some room.
_WRITTEN_BYTES = 16 * 1024**3
_MEMORY_BYTES = 5 * 1024**3
_READY_S = 300.0
_END_S = 300.0
# Below it pytest makes the folders of the tests; short, because a Unix socket's path may have 107 bytes.
TEMPORARY = Path("/tmp/pytest-lb")
FIRST = Path(__file__).with_name("first_in_lane.py")
PROGRAMS = {"slirp4netns": "slirp4netns", "mkfs.ext4": "e2fsprogs", "unshare": "util-linux"}


def how_many(folder: Path) -> tuple[int, str]:
    """How many lanes this machine carries, 0 where two are too many, and what does not allow more."""
    limits = {
        f"{os.cpu_count()} processors": os.cpu_count() or 1,
        f"memory (each takes {_MEMORY_BYTES >> 30} GiB)": available_memory() // _MEMORY_BYTES,
        f"free disk (each takes {_WRITTEN_BYTES >> 30} GiB)": shutil.disk_usage(folder).free
        // _WRITTEN_BYTES,
    }
    why = min(limits, key=lambda name: limits[name])
    return (limits[why] if limits[why] > 1 else 0), why


def available_memory() -> int:
    """In bytes, as the kernel estimates it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


class Lane:
    """Use as a context; `folder` lies in the checkout, and is emptied.

    Raises `StepFailed` if this machine cannot do it.
    """

    def __init__(self, folder: Path, python: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.python = folder / "python"
        self.log = folder / "lane.log"
        # The number that its first process has here.
        self.first = 0
        self._interpreter = python
        self._env = dict(env)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Lane:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._make_disk()
            ours, theirs = socket.socketpair()
            self._ours = stack.enter_context(ours)
            with theirs, self.log.open("wb") as log:
                # Ctrl-C ends the tests in it first; the socket tells it when we are gone.
                self._unshare = subprocess.Popen(
                    [
                        "unshare", "--mount", "--propagation", "private", "--pid", "--net", "--ipc", "--uts",
                        "--fork", "--kill-child", sys.executable, str(FIRST),
                        str(self.folder), str(theirs.fileno()),
                    ],
                    env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=(theirs.fileno(),), start_new_session=True,
                )  # fmt: skip
            stack.callback(self._kill)
            self.first = self._wait_for_first()
            self._connect(stack)
            self._say("go")
            self._write_python()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait_until_ready(self) -> None:
        """Its Docker answers and has the Debian base image. Raises `StepFailed`."""
        self._hear(_READY_S, "did not get ready")

    def end(self, grace_s: float = GRACE_S) -> list[str]:
        """What is not as before the tests, a line each; its Docker has stopped. Raises `StepFailed`.

        A process has `grace_s` seconds to end by itself.
        """
        self._say(f"end {grace_s:g}")
        return self._hear(_END_S, "did not end")["left"]

    def _make_disk(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "disk").mkdir(parents=True)
        disk = self.folder / "disk.ext4"
        with disk.open("wb") as file:
            file.truncate(_DISK_BYTES)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(disk))

    def _wait_for_first(self) -> int:
        """As soon as it is in its own network."""
        number = self._unshare.pid
        children = Path(f"/proc/{number}/task/{number}/children")
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and self._unshare.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                child = children.read_text().split()[0]
                if os.readlink(f"/proc/{child}/ns/net") != os.readlink("/proc/self/ns/net"):
                    return int(child)
            time.sleep(0.02)
        raise self._failed("unshare", "could not be started")

    def _connect(self, stack: contextlib.ExitStack) -> None:
        """Its way to the outside; to what listens on this machine's loopback there is none."""
        ready, told = os.pipe()
        ending, held = os.pipe()
        with self.log.open("ab") as log:
            slirp = subprocess.Popen(
                [
                    "slirp4netns", "--configure", "--enable-ipv6", "--disable-host-loopback",
                    f"--ready-fd={told}", f"--exit-fd={ending}", str(self.first), "tap0",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told, ending),
                start_new_session=True,
            )  # fmt: skip
        os.close(told)
        os.close(ending)
        stack.callback(slirp.wait)
        stack.callback(os.close, held)
        try:
            if not os.read(ready, 1):
                raise self._failed("slirp4netns", "has no network")
        finally:
            os.close(ready)

    def _write_python(self) -> None:
        enter = f"nsenter --target {self.first} --mount --pid --net --ipc --uts --"
        there = shlex.join(["sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), str(self._interpreter)])
        self.python.write_text(f'#!/bin/sh\nexec {enter} {there} "$@"\n')
        self.python.chmod(0o755)

    def _say(self, word: str) -> None:
        with contextlib.suppress(OSError):
            self._ours.sendall(f"{word}\n".encode())

    def _hear(self, seconds: float, otherwise: str) -> dict[str, list[str]]:
        self._ours.settimeout(seconds)
        line = b""
        with contextlib.suppress(OSError):
            while not line.endswith(b"\n"):
                part = self._ours.recv(65536)
                if not part:
                    break
                line += part
        if not line.endswith(b"\n"):
            raise self._failed("", otherwise)
        return dict(json.loads(line))

    def _failed(self, tried: str, what: str) -> StepFailed:
        return StepFailed(
            f"A machine for tests {what}.",
            tried=tried,
            tail=self.log.read_text(errors="replace").splitlines()[-8:],
            next_step="Run the tests one after the other: `tests/run --lanes 0`.",
        )

    def _kill(self) -> None:
        """The first process of a process table has ended when all others have, and then unshare(1) ends."""
        with contextlib.suppress(OSError):
            os.kill(self.first or self._unshare.pid, signal.SIGKILL)
        self._unshare.wait()


def save(site: Site, step: Step, to: Path) -> str:
    """The Debian base image of this machine as a file for the lanes. Raises `StepFailed`."""
    to.parent.mkdir(parents=True, exist_ok=True)
    step.say("docker save")
    docker("save", "--output", str(to), base_image.image_name(site.release), env=site.root_env)
    return str(to)


def docker(*arguments: str, env: Mapping[str, str]) -> None:
    done = subprocess.run(["docker", *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepFailed(
            f"`docker {arguments[0]}` ended with {done.returncode}.", tail=done.stderr.splitlines()[-8:],
            next_step="See how Docker and the disk are, then run the command again.",
        )  # fmt: skip


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StepFailed(
            f"`{' '.join(command)}` ended with {done.returncode}.", tail=done.stderr.splitlines()[-8:],
            next_step="Run the tests one after the other: `tests/run --lanes 0`.",
        )  # fmt: skip
