"""Installations on the disk: a store with rows, people's files, a hub's database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation_on_disk import OnDisk


@pytest.fixture
def place(tmp_path: Path) -> Iterator[OnDisk]:
    """A desktop's installation with two people's worth of everything."""
    made = OnDisk(tmp_path / "here")
    made.fill()
    yield made


@pytest.fixture
def elsewhere(tmp_path: Path) -> OnDisk:
    """An empty state folder on another machine."""
    return OnDisk(tmp_path / "there")


@pytest.fixture(autouse=True)
def nothing_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands find no installation but the tests'."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("LITTLEST_BINDER_STATE", os.fspath(tmp_path / "here"))
