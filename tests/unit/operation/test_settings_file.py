"""Changing the desktop's settings file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tljh_plugin.errors import SettingsError
from tljh_plugin.operation.settings_file import change
from tljh_plugin.settings import load_desktop

WRITTEN = """# My own remarks.
binder:
  desktop:
    port: 9000  # since 8888 is Jupyter's
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_a_file_that_is_not_there_is_made(path: Path) -> None:
    assert change(path, {"build.release": "trixie"}, {})
    assert load_desktop(path.parent).build.release == "trixie"


def test_remarks_and_other_keys_stay(path: Path) -> None:
    path.write_text(WRITTEN)
    assert change(path, {"build.mirror": "http://m/debian"}, {})
    assert path.read_text().startswith(WRITTEN)
    assert load_desktop(path.parent).build.mirror == "http://m/debian"


def test_a_default_does_not_replace_what_is_set(path: Path) -> None:
    path.write_text(WRITTEN)
    change(path, {}, {"desktop.port": 1234, "build.release": "trixie"})
    settings = load_desktop(path.parent)
    assert (settings.desktop.port, settings.build.release) == (9000, "trixie")


def test_what_is_so_already_writes_nothing(path: Path) -> None:
    path.write_text(WRITTEN)
    os.utime(path, (0, 0))
    assert not change(path, {"desktop.port": 9000}, {})
    assert path.stat().st_mtime == 0


@pytest.mark.parametrize(
    ("text", "values", "word"),
    [
        (WRITTEN, {"desktop.port": 0}, "desktop.port"),
        (WRITTEN, {"desktop.prot": 1}, "desktop.prot"),
        ("binder:\n  nonsense: 1\n", {"desktop.port": 9001}, "nonsense"),
        ("binder: [", {"desktop.port": 9001}, "YAML"),
        ("- a list\n", {"desktop.port": 9001}, "binder:"),
    ],
)
def test_an_outcome_that_is_not_valid_leaves_the_file_as_it_is(
    path: Path, text: str, values: dict[str, object], word: str
) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError, match=word):
        change(path, values, {})
    assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == ["config.yaml"]


def test_an_empty_section_is_filled(path: Path) -> None:
    path.write_text("binder:\n")
    change(path, {"desktop.port": 9001}, {})
    assert load_desktop(path.parent).desktop.port == 9001


def test_as_a_module_it_says_what_applies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tljh_plugin.operation.settings_file"]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    (tmp_path / "littlest-binder").mkdir()
    given = json.dumps({"set": {"desktop.port": 9001}})
    shown = subprocess.run([*command, given], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(shown.stdout)["port"] == 9001
    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert again.stdout == shown.stdout
    given = json.dumps({"set": {"desktop.port": "many"}})
    bad = subprocess.run([*command, given], capture_output=True, text=True, check=False, env=environment)
    assert bad.returncode == 1
    assert "many" in bad.stderr
