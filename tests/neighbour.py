"""A machine beside this one, in a network namespace of its own: of the LAN, of the cloud, of the internet.

It has a private address, a link-local one as clouds' metadata services have, and a public one (of the block
for documentation, RFC 5737), and answers HTTP at port 80 on all of them. Nothing leaves this machine.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from inside import answer, program

PORT = 80
_SERVE = [sys.executable, "-m", "http.server", str(PORT), "--directory"]


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


class Neighbour:
    """Use as a context; needs root."""

    def __init__(self) -> None:
        self.name = f"lbn-{secrets.token_hex(4)}"
        subnet = f"10.{random.randrange(215, 250)}.{random.randrange(256)}"
        self.ours, self.address = f"{subnet}.1", f"{subnet}.2"
        self.metadata = f"169.254.{random.randrange(1, 250)}.{random.randrange(1, 250)}"
        self.public = f"203.0.113.{random.randrange(1, 250)}"
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Neighbour:
        ip("netns", "add", self.name)
        try:
            # The other end goes with the namespace, and so do the routes.
            ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            ip("addr", "add", f"{self.ours}/30", "dev", self.name)
            ip("link", "set", self.name, "up")
            self._there("link", "set", "lo", "up")
            self._there("link", "set", "eth0", "up")
            for address in (f"{self.address}/30", f"{self.metadata}/32", f"{self.public}/32"):
                self._there("addr", "add", address, "dev", "eth0")
            self._there("route", "add", "default", "via", self.ours)
            for address in (self.metadata, self.public):
                ip("route", "add", f"{address}/32", "via", self.address, "dev", self.name)
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *_SERVE, self._folder.name],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for address in (self.address, self.metadata, self.public):
                _until_it_answers(address)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        ip("netns", "del", self.name)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self.name)
        self._folder.cleanup()

    def route(self, network: str) -> None:
        """Let it send packets for one of our networks to this machine, as anybody in a LAN can."""
        self._there("route", "replace", network, "via", self.ours)

    def value(self, code: str, place: Mapping[str, Any]) -> Any:
        """What `code` sets `got` to, run there."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, sys.executable, "-c", program(code, place)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return answer(done.stdout)

    def _there(self, *arguments: str) -> None:
        ip("-n", self.name, *arguments)


def _until_it_answers(address: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, PORT), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.02)
