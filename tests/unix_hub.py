"""A plain JupyterHub that runs as root, with the real service beside it, and accounts of this machine."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from running_hub import RunningHub

from tljh_plugin.settings import Settings, from_mapping, read_file

PREFIX = "lb-test-"


class Accounts:
    """Accounts and groups for one test, gone afterwards; use as a context."""

    def __init__(self, homes: Path) -> None:
        self.homes = homes
        homes.mkdir(mode=0o755, exist_ok=True)
        self._made: list[tuple[str, str]] = []

    def __enter__(self) -> Accounts:
        return self

    def __exit__(self, *_: object) -> None:
        for command, name in reversed(self._made):
            subprocess.run([command, name], check=False, capture_output=True)

    def group(self, name: str, gid: int) -> None:
        subprocess.run(["groupadd", "--gid", str(gid), PREFIX + name], check=True)
        self._made.append(("groupdel", PREFIX + name))

    def add(self, name: str, uid: int, *groups: str) -> pwd.struct_passwd:
        """The account of a person; its own group has the same number."""
        account = PREFIX + name
        command = ["useradd", "--uid", str(uid), "--user-group", "--create-home"]
        more = ["--groups", ",".join(groups)] if groups else []
        subprocess.run([*command, "--base-dir", str(self.homes), *more, account], check=True)
        self._made.append(("userdel", account))
        return pwd.getpwnam(account)


class UnixHub(RunningHub):
    """People's accounts are called `lb-test-NAME`; `boss` administers."""

    config = Path(__file__).with_name("unix_hub_config.py")

    def __init__(self, home: Path, *, settings: Mapping[str, Any]) -> None:
        super().__init__(home, service="real", settings=settings)
        self.environment["TEST_PORT"] = str(self.port)
        self.service_log = home / "service.log"
        self.service: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> Settings:
        place = self.state / "config.yaml"
        return from_mapping(read_file(place), platform="jupyterhub", state_dir=self.state, origin=place)

    @property
    def service_origin(self) -> str:
        return self.origin

    def change(self, section: str, **values: Any) -> None:
        """Write settings into the file, as an administrator does; nothing is restarted."""
        place = self.state / "config.yaml"
        document = YAML(typ="safe").load(place)
        document["binder"].setdefault(section, {}).update(values)
        with place.open("w") as file:
            YAML(typ="safe").dump(document, file)

    def _serve(self) -> subprocess.Popen[bytes]:
        with self.service_log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tljh_plugin.cli", "serve"],
                cwd=self.state,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def __aenter__(self) -> UnixHub:
        await super().__aenter__()
        self.service = self._serve()
        try:
            await self.service_answers()
        except BaseException:
            print(self.service_log.read_text(errors="replace"))
            await self.stop()
            raise
        return self

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        if self.service is not None and self.service.poll() is None:
            self.service.terminate()
            try:
                self.service.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.service.pid, signal.SIGKILL)
                self.service.wait()
        await super().stop(by)
