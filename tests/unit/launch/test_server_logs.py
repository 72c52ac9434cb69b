"""Names of containers, and logs that are kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tljh_plugin.launch import server_logs


@pytest.mark.parametrize(("person", "server"), [("ada", "one"), ("Ada O'Neil@Ü", ""), ("…", "…")])
def test_names_are_docker_names_and_unique(person: str, server: str) -> None:
    names = {server_logs.container_name(person, server) for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", name) for name in names)


def test_the_newest_logs_are_kept_for_the_owner_alone(tmp_path: Path) -> None:
    places = [server_logs.keep(tmp_path, "ada", f"n{number:03}", str(number)) for number in range(60)]
    kept = sorted((tmp_path / "servers").iterdir())
    assert len(kept) == 50
    assert places[-1] in kept
    assert places[-1].read_text() == "59"
    assert places[-1].stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "servers").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("in the way")
    server_logs.keep(tmp_path, "ada", "one", "text")
