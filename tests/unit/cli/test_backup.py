"""`backup` and `restore` as somebody types them, on a machine without Docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from installation_on_disk import OnDisk, seen

from tljh_plugin.cli.backup import command as backup
from tljh_plugin.cli.restore import command as restore
from tljh_plugin.errors import BadBackup


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnDisk:
    made = OnDisk(tmp_path / "here")
    made.fill()
    monkeypatch.setenv("LITTLEST_BINDER_STATE", str(made.state))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    return made


def test_it_says_what_is_in_it_and_what_is_not(place: OnDisk) -> None:
    done = CliRunner().invoke(backup, [])
    assert done.exit_code == 0, done.output
    assert "Images: 3; 0 in the backup, 3 can be built again, 0 cannot." in done.stdout
    assert "Not in it: People's files" in done.stdout


def test_a_dry_run_says_what_would_be_done_and_does_nothing(place: OnDisk, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    CliRunner().invoke(backup, [str(file), "--projects"])
    there = tmp_path / "there"
    done = CliRunner().invoke(restore, [str(file), "--dry-run", "--to-state", str(there)])
    assert done.exit_code == 0, done.output
    assert "every checksum in it is right" in done.stdout
    assert "People's files, 2: nothing is there: restored" in done.stdout
    assert "Images, 3: built again when somebody needs them" in done.stdout
    assert not there.exists() or not (there / "store.sqlite").exists()


def test_nothing_is_done_without_a_yes(place: OnDisk, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    CliRunner().invoke(backup, [str(file)])
    before = seen(place.state)
    done = CliRunner().invoke(restore, [str(file)], input="n\n")
    assert done.exit_code == 1
    assert seen(place.state) == before


def test_programs_get_json(place: OnDisk, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    made = json.loads(CliRunner().invoke(backup, [str(file), "--projects", "--json"]).stdout)
    assert made["file"] == str(file)
    assert len(made["projects"]) == 2
    there = tmp_path / "there"
    done = CliRunner().invoke(restore, [str(file), "--json", "--to-state", str(there)])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {each["action"] for each in said["projects"]} == {"new"}
    assert (there / "store.sqlite").exists()


def test_a_bad_file_is_refused_before_anything_is_asked(place: OnDisk, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no backup")
    done = CliRunner().invoke(restore, [str(tmp_path / "x")], input="y\n")
    assert isinstance(done.exception, BadBackup)
