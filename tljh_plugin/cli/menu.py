"""`littlest-binder menu`: the entry in the desktop's menu."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..operation import desktop_entries
from ..settings import load_desktop


@click.group(name="menu", short_help="The entry in the desktop's menu.")
def command() -> None:
    """The entry in the desktop's menu, which starts Binder at home without a terminal and opens its page."""


@command.command(name="on", short_help="Add it.")
def on() -> None:
    """Add the entry and its icon; what is there and right stays as it is."""
    settings = load_desktop()
    desktop_entries.ensure(settings, Path(sys.prefix) / "bin" / "littlest-binder")
    desktop_entries.unwanted_mark(settings).unlink(missing_ok=True)
    click.echo(f"In the menu: {desktop_entries.entry_path(settings)}")


@command.command(name="off", short_help="Take it away.")
def off() -> None:
    """Take the entry and its icon away; the installer then does not add it again."""
    settings = load_desktop()
    gone = desktop_entries.remove_from_menu(settings)
    if settings.state_dir.is_dir():
        desktop_entries.unwanted_mark(settings).touch()
    click.echo("Taken out of the menu." if gone else "It was not in the menu.")
