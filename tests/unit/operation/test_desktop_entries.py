"""The menu entry: valid by the specification, and nobody else's file is touched."""

from __future__ import annotations

import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from tljh_plugin.cli import group
from tljh_plugin.errors import SettingsError
from tljh_plugin.operation import desktop_entries
from tljh_plugin.settings import Settings, load_desktop

PROGRAM = Path("/home/ada/.local/share/littlest-binder/venv/bin/littlest-binder")
# What the Desktop Entry Specification 1.5 reserves for an argument that is not quoted.
RESERVED = set(" \t\n\"'\\><~|&;$*?#()`")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "data" / "littlest-binder").mkdir(parents=True)
    return load_desktop()


def parsed(path: Path) -> RawConfigParser:
    parser = RawConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def unquoted(value: str) -> list[str]:
    """The arguments of an `Exec` value as the specification reads it: escapes of values, then quotes."""
    value = value.replace("\\\\", "\\")
    words, word, quoted, letters = [], "", False, iter(value)
    for letter in letters:
        if letter == '"':
            quoted = not quoted
        elif letter == "\\" and quoted:
            word += next(letters)
        elif letter == " " and not quoted:
            words.append(word)
            word = ""
        else:
            assert quoted or letter not in RESERVED, f"{letter!r} must be quoted"
            word += letter
    return [each.replace("%%", "%") for each in [*words, word]]


def test_the_entry_starts_it_without_a_terminal_and_can_stop_it(settings: Settings) -> None:
    changed = desktop_entries.ensure(settings, PROGRAM)
    path = settings.state_dir.parent / "applications" / "littlest-binder.desktop"
    assert path in changed
    entry = parsed(path)
    main = entry["Desktop Entry"]
    assert main["Type"] == "Application"
    assert main["Terminal"] == "false"
    assert unquoted(main["Exec"]) == [str(PROGRAM), "start", "--menu"]
    assert unquoted(entry["Desktop Action stop"]["Exec"]) == [str(PROGRAM), "stop"]
    icon = settings.state_dir.parent / "icons/hicolor/scalable/apps" / f"{main['Icon']}.svg"
    assert ElementTree.parse(icon).getroot().get("viewBox") == "0 0 32 32"


@pytest.mark.skipif(
    not shutil.which("desktop-file-validate"), reason="no desktop-file-validate (desktop-file-utils)"
)
@pytest.mark.parametrize("program", [PROGRAM, Path('/home/a da/100%/"x"/$y/littlest-binder')])
def test_the_validator_of_freedesktop_finds_nothing(settings: Settings, program: Path) -> None:
    desktop_entries.ensure(settings, program)
    shown = subprocess.run(
        ["desktop-file-validate", desktop_entries.entry_path(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stdout) == (0, "")


@pytest.mark.parametrize(
    "name", ["a b", "100%", 'quo"te', "dol$lar", "back\\slash", "tick`", "semi;colon", "ä"]
)
def test_a_folder_of_any_name_is_started_as_it_is(name: str) -> None:
    program = Path("/home") / name / "littlest-binder"
    line = next(each for each in desktop_entries.entry(program).splitlines() if each.startswith("Exec="))
    assert unquoted(line.removeprefix("Exec="))[0] == str(program)


@pytest.mark.parametrize("program", ["relative/littlest-binder", "/a=b/littlest-binder", "/a\nExec=evil/x"])
def test_what_no_entry_can_name_is_refused(program: str) -> None:
    with pytest.raises(SettingsError):
        desktop_entries.entry(Path(program))


def test_a_second_time_changes_nothing(settings: Settings) -> None:
    assert len(desktop_entries.ensure(settings, PROGRAM)) == 2
    assert desktop_entries.ensure(settings, PROGRAM) == []
    assert desktop_entries.ensure(settings, Path("/elsewhere/littlest-binder")) != []


def test_somebody_elses_file_is_neither_replaced_nor_removed(settings: Settings) -> None:
    path = desktop_entries.entry_path(settings)
    path.parent.mkdir(parents=True)
    path.write_text("[Desktop Entry]\nName=Mine\n")
    with pytest.raises(SettingsError):
        desktop_entries.ensure(settings, PROGRAM)
    desktop_entries.remove_from_menu(settings)
    assert path.read_text() == "[Desktop Entry]\nName=Mine\n"


def test_a_link_laid_at_its_place_is_not_followed(settings: Settings, tmp_path: Path) -> None:
    path = desktop_entries.entry_path(settings)
    path.parent.mkdir(parents=True)
    (tmp_path / "other").write_text("org.littlest-binder")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(SettingsError):
        desktop_entries.ensure(settings, PROGRAM)
    desktop_entries.remove_from_menu(settings)
    assert (tmp_path / "other").exists()


def test_removing_takes_entry_icon_and_autostart_and_nothing_else(settings: Settings) -> None:
    desktop_entries.ensure(settings, PROGRAM)
    neighbour = desktop_entries.entry_path(settings).with_name("other.desktop")
    neighbour.write_text("[Desktop Entry]\n")
    gone = desktop_entries.remove(settings)
    assert gone == [desktop_entries.entry_path(settings), desktop_entries.icon_path(settings)]
    left = [each for each in settings.state_dir.parent.rglob("*") if each.is_file()]
    assert left == [neighbour]
    assert desktop_entries.remove(settings) == []


def test_taken_out_of_the_menu_it_is_noted_for_the_installer(settings: Settings) -> None:
    run = CliRunner()
    assert run.invoke(group, ["menu", "on"]).exit_code == 0
    assert desktop_entries.present(settings)
    assert "Taken out" in run.invoke(group, ["menu", "off"]).output
    assert not desktop_entries.present(settings)
    assert desktop_entries.unwanted_mark(settings).exists()
    assert "not in the menu" in run.invoke(group, ["menu", "off"]).output
    run.invoke(group, ["menu", "on"])
    assert not desktop_entries.unwanted_mark(settings).exists()
