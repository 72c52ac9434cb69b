"""What the installer left on a server is shown first, then gone, and nothing of a desktop is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tljh_plugin.operation import installer_traces
from tljh_plugin.operation.unit import NAME
from tljh_plugin.settings import Settings


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    names = {
        "ENVIRONMENT_FILE": "tljh-binder",
        "INSTALLER_STATE": "tljh",
        "_STAMP": "stamp.json",
        "_TRAEFIK": "toml",
    }
    for constant, name in names.items():
        monkeypatch.setattr(installer_traces, constant, tmp_path / name)
    monkeypatch.setattr(installer_traces, "FOLDER", tmp_path)
    (tmp_path / "tljh-binder").write_text("https_proxy=x")
    (tmp_path / "tljh" / "source").mkdir(parents=True)
    (tmp_path / "stamp.json").write_text("{}")
    (tmp_path / "toml").write_text("[entryPoints.http.http.encodedCharacters]")
    (tmp_path / f"{NAME}.d").mkdir()
    (tmp_path / f"{NAME}.d" / "mine.conf").write_text("[Service]")
    return sorted(tmp_path.iterdir())


def test_a_look_changes_nothing(traces: list[Path]) -> None:
    said = installer_traces.remove(Settings(platform="tljh"), True)
    assert len(said) == 5
    assert all(path.exists() for path in traces)


def test_all_of_it_goes_and_a_second_time_there_is_nothing(traces: list[Path]) -> None:
    settings = Settings(platform="tljh")
    stamp, state, environment, drop_ins, traefik = traces
    assert installer_traces.remove(settings, False) == [
        f"the proxies and indexes in {environment}",
        f"the changes of the unit in {drop_ins}",
        f"the installer's notes in {state}",
        f"the installer's note {stamp}",
        f"what lets escaped characters pass, at the next `tljh-config reload proxy`, {traefik}",
    ]
    assert not any(path.exists() for path in traces)
    assert installer_traces.remove(settings, False) == []


def test_on_a_desktop_there_is_nothing_of_it(traces: list[Path]) -> None:
    assert installer_traces.remove(Settings(platform="desktop"), False) == []
    assert all(path.exists() for path in traces)
