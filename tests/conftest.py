"""Fixtures that all tests may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from git_server import GitServer


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """A real git server on loopback, without repositories."""
    with GitServer(tmp_path / "served") as server:
        yield server
