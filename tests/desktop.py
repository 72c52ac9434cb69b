"""A desktop installation of its own for tests: `littlest-binder up` in a temporary state folder.

Everything it needs that is not the project (Docker, the Debian root filesystem, the proxy) is there because
`tests/run` has made sure of it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

LINK = re.compile(r"http://\S+/hub/sign-in\?\S+")
_chosen_ports: set[int] = set()


def free_port() -> int:
    """One below those that the kernel gives to connections, which would take it before its program does, and
    below those that a hub chooses for itself; another at each call."""
    while True:
        port = random.randrange(16_000, 24_000)  # not a secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _chosen_ports:
                _chosen_ports.add(port)
                return port


class Desktop:
    """Binder at home below `home`, on a free port. `settings` is the `binder:` section of its file."""

    def __init__(self, home: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.home = home
        self.state = home / "littlest-binder"
        self.port = free_port()
        self.state.mkdir(parents=True, exist_ok=True)
        given = dict(settings or {})
        section = {**given, "desktop": {**given.get("desktop", {}), "port": self.port}}
        with (self.state / "config.yaml").open("w") as file:
            YAML(typ="safe").dump({"binder": section}, file)
        self.environment = {**os.environ, "XDG_DATA_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        self.environment.pop("DISPLAY", None)
        self.process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        self._changed = threading.Condition()

    @property
    def hub_url(self) -> str:
        return f"http://binder.localhost:{self.port}"

    @property
    def owner(self) -> str:
        return getpass.getuser()

    def processes(self) -> list[str]:
        """Command lines of living processes that know of this installation's folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(self.home).encode() in told and state not in "ZX" and int(entry.name) != os.getpid():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    @property
    def text(self) -> str:
        return "".join(self.output)

    def up(self, timeout_s: float = 300) -> str:
        """Start it and return the sign-in link that it prints."""
        self.output.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tljh_plugin.cli", "up", "--no-browser"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        with self._changed:
            ok = self._changed.wait_for(
                lambda: LINK.search(self.text) or (self.process and self.process.poll() is not None),
                timeout_s,
            )
        found = LINK.search(self.text)
        assert ok, f"nothing within {timeout_s} s:\n{self.text}"
        assert found, f"no sign-in link in:\n{self.text}"
        return found[0]

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._changed:
                self.output.append(line)
                self._changed.notify_all()
        process.wait()
        with self._changed:
            self._changed.notify_all()

    def command(
        self, *arguments: str, timeout_s: float = 300, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `littlest-binder …` for this installation."""
        return subprocess.run(
            [sys.executable, "-m", "tljh_plugin.cli", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            **options,
        )

    def link(self) -> str:
        """A new sign-in link."""
        done = self.command("link")
        found = LINK.search(done.stdout)
        assert found, done.stdout + done.stderr
        return found[0]

    def stop(self, by: signal.Signals = signal.SIGINT, timeout_s: float = 180) -> int:
        """Ctrl-C; returns the exit code of `up`."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(by)
        try:
            return self.process.wait(timeout_s)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def docker_state() -> dict[str, set[str]]:
    """Ids of everything on the engine that a run must leave as it was; images are kept on purpose."""
    asked = {
        "containers": ["ps", "--all", "--quiet", "--no-trunc"],
        "networks": ["network", "ls", "--quiet", "--no-trunc"],
        "volumes": ["volume", "ls", "--quiet"],
    }
    return {
        what: set(
            subprocess.run(["docker", *command], capture_output=True, text=True, check=True).stdout.split()
        )
        for what, command in asked.items()
    }


def labels_of(thing: str) -> str:
    """What Docker says of a container, network or volume, labels included; empty if it is gone."""
    return subprocess.run(["docker", "inspect", thing], capture_output=True, text=True, check=False).stdout
