"""Engines that tests compare: the machine's own, and the one of the next Debian release beside it.

The second is taken out of Debian's packages once and kept below `tests/.state`; it is never installed. Where
it cannot be had, what needs it is not run, and the reason is told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from private_docker import PrivateDocker

HERE = Path(__file__).resolve().parent
STATE = HERE / ".state" / "next-engine"
_PACKAGES = ("docker.io", "containerd")
_FETCH_S = 300


@dataclass(frozen=True)
class Kind:
    """An engine to be had, and which of its image stores."""

    name: str
    next_release: bool = False
    features: dict[str, bool] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


OWN = Kind("own")
NEXT = Kind("next", next_release=True)
NEXT_CONTAINERD = Kind("next-containerd-store", next_release=True, features={"containerd-snapshotter": True})


@contextmanager
def private(kind: Kind, folder: Path) -> Iterator[PrivateDocker]:
    """Such an engine with an empty disk of its own, which is gone afterwards; skips where there is none."""
    if os.geteuid() != 0:
        pytest.skip("an engine of its own needs root")
    programs = None
    if kind.next_release:
        programs = next_engine()
        if isinstance(programs, str):
            pytest.skip(programs)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with PrivateDocker(folder, programs=programs, features=kind.features) as docker:
            yield docker
    finally:
        (folder / "disk.ext4").unlink(missing_ok=True)


@cache
def next_engine() -> Path | str:
    """The root of the unpacked packages, or why they cannot be had."""
    unpacked = STATE / "root"
    if not unpacked.is_dir():
        try:
            _fetch(unpacked)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return f"the next release's Docker cannot be had: {str(said).strip()[-300:]}"
    shown = subprocess.run(
        [unpacked / "usr" / "sbin" / "dockerd", "--version"], capture_output=True, text=True, check=False
    )
    return unpacked if shown.returncode == 0 else f"the next release's Docker does not run: {shown.stderr}"


def _fetch(unpacked: Path) -> None:
    """As the installer takes the buildx plugin: through apt's signed index, with folders of our own."""
    sys.path.insert(0, str(HERE.parent / "installer"))
    try:
        from steps.buildx import isolated_apt
        from steps.packages import machine_mirror
    finally:
        sys.path.remove(str(HERE.parent / "installer"))
    STATE.mkdir(parents=True, exist_ok=True)
    mirror = machine_mirror(("http://", "https://"))
    if not mirror:
        raise OSError("this machine's apt knows no mirror of Debian")
    options = isolated_apt(STATE, mirror)
    for command in (["update", "--error-on=any"], ["download", *_PACKAGES]):
        subprocess.run(
            ["apt-get", "-q", *options, *command],
            cwd=STATE, check=True, capture_output=True, text=True, timeout=_FETCH_S,
        )  # fmt: skip
    draft = unpacked.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    for package in _PACKAGES:
        [found] = STATE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", found, draft], check=True, capture_output=True, text=True)
        found.unlink()
    draft.rename(unpacked)
