"""The menu entry: for who has a screen, once, and not against their will."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from steps import menu
from steps.console import Step, StepFailed
from steps.site import Site


@pytest.fixture
def screen_site(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(menu, "_SESSIONS", (tmp_path / "xsessions",))
    state = tmp_path / "data" / "littlest-binder"
    state.mkdir(parents=True)
    return dataclasses.replace(site, state=state, venv=state / "venv", environ={"DISPLAY": ":0"})


def test_it_is_for_machines_with_a_screen(screen_site: Site, tmp_path: Path) -> None:
    assert menu.is_wanted(screen_site)
    dark = dataclasses.replace(screen_site, environ={})
    assert not menu.is_wanted(dark)
    (tmp_path / "xsessions").mkdir()
    assert not menu.is_wanted(dark)
    (tmp_path / "xsessions" / "gnome.desktop").touch()
    assert menu.is_wanted(dark), "installed by ssh for a computer with a desktop"


def test_what_is_there_or_was_taken_away_is_not_added(screen_site: Site) -> None:
    (screen_site.state / "menu-off").touch()
    assert not menu.is_wanted(screen_site)
    (screen_site.state / "menu-off").unlink()
    entry = screen_site.state.parent / "applications" / "littlest-binder.desktop"
    entry.parent.mkdir()
    entry.touch()
    assert not menu.is_wanted(screen_site)


def test_the_installed_command_adds_it(screen_site: Site, step: Step, tmp_path: Path) -> None:
    program = screen_site.venv / "bin" / "littlest-binder"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/called\n')
    program.chmod(0o755)
    assert menu.ensure(screen_site, step) == "in the menu"
    assert (tmp_path / "called").read_text() == "menu on\n"
    program.write_text("#!/bin/sh\nexit 2\n")
    with pytest.raises(StepFailed) as caught:
        menu.ensure(screen_site, step)
    assert "--no-menu" in caught.value.next_step
