"""What the tests of the installer share; its modules are found beside `bootstrap.py`."""

from __future__ import annotations

import io
import os
import pwd
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "installer"))

from steps.console import Console, Step  # noqa: E402
from steps.person import Person  # noqa: E402
from steps.site import Site  # noqa: E402


@pytest.fixture
def screen() -> io.StringIO:
    """What a person would see."""
    return io.StringIO()


@pytest.fixture
def console(screen: io.StringIO) -> Console:
    return Console(total=1, stream=screen)


@pytest.fixture
def step(console: Console) -> Step:
    return console.start("A step")


@pytest.fixture
def root() -> Person:
    return Person("root", 0, 0, Path("/root"))


@pytest.fixture
def somebody() -> Person:
    """An account without rights."""
    entry = pwd.getpwnam("nobody")
    return Person(entry.pw_name, entry.pw_uid, entry.pw_gid, Path("/nonexistent"))


@pytest.fixture
def site(tmp_path: Path, root: Person) -> Site:
    return Site(root, tmp_path / "state", tmp_path / "state" / "venv", ROOT, dict(os.environ))
