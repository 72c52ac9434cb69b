"""What the hub hands over to the service and to commands."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin import handover
from tljh_plugin.errors import HubUnavailable, SettingsError
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping


@pytest.fixture
def written(tmp_path: Path) -> handover.Handover:
    settings = from_mapping({"servers": {"cpus": 3}}, platform="desktop", state_dir=tmp_path, owner="ada")
    ensure_state(settings)
    value = handover.Handover(
        platform="desktop", state_dir=tmp_path, owner="ada", section=settings.model_dump(mode="json")
    )
    handover.write(value)
    return value


def test_the_service_works_with_the_settings_of_the_hub(written: handover.Handover) -> None:
    found = handover.read(written.state_dir)
    assert found == written
    assert found.settings().servers.cpus == 3
    assert found.settings().owner == "ada"


def test_only_the_owner_can_read_it_and_nothing_else_lies_around(written: handover.Handover) -> None:
    place = handover.path(written.state_dir)
    assert place.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in place.parent.iterdir()] == [place.name]


def test_where_no_hub_was_started_the_next_step_is_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(HubUnavailable, match="littlest-binder up"):
        handover.read(tmp_path)


def test_a_damaged_file_says_who_writes_it(written: handover.Handover) -> None:
    handover.path(written.state_dir).write_text('{"platform": "desktop"}')
    with pytest.raises(SettingsError, match="Restart the hub"):
        handover.read(written.state_dir)


def test_who_may_not_look_into_a_servers_state_is_told_to_do_it_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(handover.STATE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    look = Path.stat

    def refused(path: Path, **more: Any) -> os.stat_result:
        if path.is_relative_to("/opt/tljh/state"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(SettingsError, match="sudo"):
        handover.find_state_dir()
    own = handover.path(tmp_path / "littlest-binder")
    own.parent.mkdir(parents=True)
    own.touch()
    assert handover.find_state_dir() == tmp_path / "littlest-binder"


def test_nobody_elses_file_says_where_a_command_goes(
    written: handover.Handover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of the person who calls `sudo -E`."""
    look, owner = os.fstat, 0

    def found(descriptor: int) -> os.stat_result:
        facts = look(descriptor)
        return os.stat_result((*facts[:4], owner, *facts[5:10]))

    monkeypatch.setattr(os, "fstat", found)
    for uid in (0, os.geteuid()):
        owner = uid
        assert handover.read(written.state_dir) == written
    owner = 1234
    with pytest.raises(SettingsError, match="belongs to the account 1234"):
        handover.read(written.state_dir)


def test_the_state_folder_is_named_or_the_persons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(handover.STATE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert handover.find_state_dir() == tmp_path / "littlest-binder"
    monkeypatch.setenv(handover.STATE_VARIABLE, "/srv/binder")
    assert handover.find_state_dir() == Path("/srv/binder")


def test_the_last_settings_are_those_of_the_hub_before(tmp_path: Path) -> None:
    assert handover.last_settings(tmp_path) is None
    settings = from_mapping({"servers": {"cpus": 3}}, platform="tljh", state_dir=tmp_path)
    (tmp_path / "run").mkdir()
    given = handover.Handover(platform="tljh", state_dir=tmp_path, section=settings.model_dump(mode="json"))
    handover.write(given)
    assert handover.last_settings(tmp_path) == settings
    handover.write(given.model_copy(update={"section": {"gone_since": 1}}))
    assert handover.last_settings(tmp_path) is None
