"""The entry in the menu of a person with a screen; `littlest-binder menu` writes it and takes it away."""

from __future__ import annotations

from pathlib import Path

from .command import run
from .console import Step
from .running import command
from .site import Site

# Where display managers look for sessions with a screen; see their own documentation.
_SESSIONS = (Path("/usr/share/xsessions"), Path("/usr/share/wayland-sessions"))


def is_wanted(site: Site) -> bool:
    """Whether this machine has a screen for the person, and the entry is missing and was not taken away."""
    screen = any(site.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not screen and not any(next(folder.glob("*.desktop"), None) for folder in _SESSIONS):
        return False
    with site.person.acting():
        there = (site.state.parent / "applications" / "littlest-binder.desktop").exists()
        unwanted = (site.state / "menu-off").exists()
    return not there and not unwanted


def ensure(site: Site, step: Step) -> str:
    """The entry, written by the installed command as the person. Raises `StepFailed`."""
    step.say("adding the menu entry")
    run(
        step, [command(site), "menu", "on"], env=site.person_env, person=site.person,
        next_step="Run the command again with `--no-menu` if you can do without the entry in the menu.",
    )  # fmt: skip
    return "in the menu"
