"""Installations on the disk: a store with rows, people's files, a hub's database."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation_on_disk import OnDisk


@pytest.fixture
def place(tmp_path: Path) -> OnDisk:
    """A desktop's installation with two people's worth of everything."""
    made = OnDisk(tmp_path / "here")
    made.fill()
    return made


@pytest.fixture
def elsewhere(tmp_path: Path) -> OnDisk:
    """An empty state folder on another machine."""
    return OnDisk(tmp_path / "there")


@pytest.fixture(autouse=True)
def nothing_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands find no installation but the tests'."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("LITTLEST_BINDER_STATE", os.fspath(tmp_path / "here"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB, where this machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
