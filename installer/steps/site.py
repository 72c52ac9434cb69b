"""Where one run of the installer works, and the record of what it changed on the machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .command import PATH
from .person import CA_BUNDLE, Person, environment

# Read by the uninstaller: what on this machine, outside the person's folders, is there because of us.
RECORD = Path("/var/lib/littlest-binder/machine.jsonl")
# Root's own folders for logs and for work that must not lie where another account can write.
LOG_DIR = Path("/var/log/littlest-binder")
WORK_DIR = Path("/var/cache/littlest-binder")

# Debootstrap knows the general one.
DEFAULT_MIRROR = ""


@dataclass(frozen=True)
class Site:
    """A person, their folders, and the Debian release and mirror of the base image."""

    person: Person
    state: Path
    venv: Path
    checkout: Path
    environ: Mapping[str, str] = field(repr=False)
    release: str = "bookworm"
    mirror: str = DEFAULT_MIRROR
    service_manager: bool = False

    @property
    def root_env(self) -> dict[str, str]:
        """The environment of what runs as root: apt, Docker, debootstrap."""
        root = Person("root", 0, 0, Path("/root"))
        env = environment(self.environ, root, path=PATH, ca_bundle=_bundle())
        return env | {
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": "unix:///var/run/docker.sock",
        }

    @property
    def person_env(self) -> dict[str, str]:
        """The environment of what runs as the person; our own programs come first."""
        return environment(self.environ, self.person, path=f"{self.venv}/bin:{PATH}", ca_bundle=_bundle()) | {
            "PIP_DISABLE_PIP_VERSION_CHECK": "1"
        }


def _bundle() -> Path | None:
    return CA_BUNDLE if CA_BUNDLE.is_file() else None


def has_service_manager() -> bool:
    """systemd's own test, sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def record(what: str, name: str) -> None:
    """Note a change of the machine, once."""
    entry = {"what": what, "name": name}
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    if RECORD.exists():
        for line in RECORD.read_text().splitlines():
            known = json.loads(line)
            if {k: known.get(k) for k in entry} == entry:
                return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with RECORD.open("a") as file:
        file.write(json.dumps({**entry, "time": now}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_as_person(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all; call it while acting as the person."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(mode)
    draft.rename(path)
