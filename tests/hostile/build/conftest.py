"""What the attempts at build time share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git_server import GitServer
from places import Place


@pytest.fixture
def place(git_server: GitServer, tmp_path: Path) -> Callable[..., Place]:
    """Makes installations: `place(policy={…}, max_files=3)`."""

    def make(policy: dict[str, Any] | None = None, **source: Any) -> Place:
        return Place(git_server, tmp_path / "state", policy or {}, source)

    return make
