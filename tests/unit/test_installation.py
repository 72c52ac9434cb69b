from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tljh_plugin import installation
from tljh_plugin.errors import SettingsError
from tljh_plugin.settings import Settings, load_desktop


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_desktop(tmp_path / "state")


def test_id_and_secret_are_made_once(settings: Settings) -> None:
    installation.ensure_state(settings)
    first = installation.instance_id(settings), installation.secret(settings)
    installation.ensure_state(settings)
    assert (installation.instance_id(settings), installation.secret(settings)) == first
    assert len(first[0]) == 16
    assert len(first[1]) == 32


def test_twenty_starters_agree_on_one_secret(settings: Settings) -> None:
    def start(_: int) -> bytes:
        installation.ensure_state(settings)
        return installation.secret(settings)

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(start, range(20)))) == 1
    assert sorted(p.name for p in settings.state_dir.iterdir() if p.name.startswith(".")) == []


def test_private_parts_are_private(settings: Settings) -> None:
    installation.ensure_state(settings)
    assert (settings.state_dir / "secret").stat().st_mode & 0o077 == 0
    assert settings.run_dir.stat().st_mode & 0o077 == 0
    assert settings.log_dir.stat().st_mode & 0o077 == 0


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="file"):
        installation.ensure_state(load_desktop(tmp_path / "file" / "state"))


def test_a_missing_state_says_what_to_run(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="littlest-binder up"):
        installation.instance_id(settings)
