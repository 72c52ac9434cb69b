"""Whose settings a command works with: a server's by what its hub handed over, else the desktop's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tljh_plugin import handover
from tljh_plugin.cli._service import settings_here


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(handover.STATE_VARIABLE, str(tmp_path / "server"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    (tmp_path / "server" / "run").mkdir(parents=True)
    return tmp_path / "server"


def test_on_a_server_it_is_what_the_hub_works_with(state: Path) -> None:
    section = {"servers": {"cpus": 0.25}}
    handover.write(handover.Handover(platform="tljh", state_dir=state, section=section))
    found = settings_here()
    assert (found.platform, found.state_dir, found.servers.cpus) == ("tljh", state, 0.25)


def test_on_a_desktop_it_is_the_persons_file(state: Path, tmp_path: Path) -> None:
    handover.write(handover.Handover(platform="desktop", state_dir=state, section={}))
    assert settings_here().platform == "desktop"
    assert settings_here().state_dir == tmp_path / "home" / "littlest-binder"


def test_where_no_hub_was_started_it_is_the_desktop(state: Path) -> None:
    assert settings_here().platform == "desktop"
