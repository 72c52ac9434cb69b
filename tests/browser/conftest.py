"""Chromium of the distribution, driven by Playwright, and one desktop installation for all modules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from desktop import Desktop
from git_server import GitServer
from lab import FLAGS
from playwright.sync_api import Browser, sync_playwright
from visitor import Visitor


# A module's, not the session's: while Playwright's loop runs, asynchronous tests cannot have one.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "install Debian's chromium: tests/run does"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """One git server for all tests of this folder."""
    with GitServer(tmp_path_factory.mktemp("served")) as server:
        yield server


PROFILES = [
    {"id": "usual", "title": "Usual", "memory_bytes": "2GiB", "cpus": 2},
    {"id": "little", "title": "Little", "memory_bytes": "1GiB", "cpus": 1},
    {"id": "huge", "title": "Huge", "memory_bytes": "2GiB", "cpus": 128},
]


# All modules': what one has built the next finds there. Each starts and stops it.
@pytest.fixture(scope="session")
def desktop(tmp_path_factory: pytest.TempPathFactory, served: GitServer) -> Iterator[Desktop]:
    policy = {key: list(value) for key, value in served.settings().items()}
    lab = tmp_path_factory.mktemp("lab")
    for name in ("course", "mine"):
        (lab / name).mkdir()
        (lab / name / f"of-{name}.csv").write_text("1,2,3\n")
    section = {
        "policy": policy,
        "profiles": PROFILES,
        "limits": {"cpus": 64},
        "mounts": [{"id": "course", "title": "Course data", "source": str(lab / "course"), "default": True}],
        "desktop": {"mount_roots": [str(lab)]},
    }
    made = Desktop(tmp_path_factory.mktemp("home"), section)
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture(scope="module")
def young_may_go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    """One whose images may go at once, however young they are."""
    made = Desktop(tmp_path_factory.mktemp("home"), {"retention": {"min_age_hours": 0, "enabled": False}})
    made.up()
    yield made
    made.stop()


@pytest.fixture
def visitor(chromium: Browser, tmp_path: Path) -> Iterator[Visitor]:
    context = chromium.new_context(viewport={"width": 1200, "height": 850})
    found = Visitor(context, tmp_path / "shots")
    yield found
    context.close()
    assert found.violations == []
