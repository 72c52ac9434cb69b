"""Which git there is."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tljh_plugin.source import git


def test_a_git_that_was_slow_to_answer_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a disk that stalls at the first look makes an old git of it for as long as the service runs."""
    said: list[Any] = [subprocess.TimeoutExpired("git", 10), "git version 2.47.3\n"]

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        now = said.pop(0)
        if isinstance(now, Exception):
            raise now
        return subprocess.CompletedProcess(command, 0, now)

    monkeypatch.setattr(subprocess, "run", run)
    git._version.cache_clear()
    try:
        assert [git.version() for _ in range(3)] == [(0, 0), (2, 47), (2, 47)]
    finally:
        git._version.cache_clear()
