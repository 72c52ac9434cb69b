"""`littlest-binder autostart`: Binder at home as a service of the person's own systemd."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..operation import autostart
from ._service import as_json, print_json

_NO_LINGER = (
    "It ends when you sign out everywhere. To have it run from the start of the machine on, whether you are "
    "signed in or not: `loginctl enable-linger`; `loginctl disable-linger` undoes that."
)
_LINGERS = "It runs from the start of the machine on, whether you are signed in or not (lingering is on)."


@click.group(name="autostart", short_help="Start Binder at home when you sign in (desktop).")
def command() -> None:
    """On a desktop, Binder at home as a service of your own systemd: it starts when you sign in.

    `littlest-binder link --open` or the menu entry then lead to its page.
    """


@command.command(name="on", short_help="Start at each sign-in.")
@click.option("--now", is_flag=True, help="Start it now as well.")
def on(now: bool) -> None:
    """Write the unit `~/.config/systemd/user/littlest-binder.service` and enable it.

    Proxies, certificate bundles and package indexes of this shell's environment are written into it.
    """
    found = autostart.switch_on(Path(sys.prefix) / "bin" / "littlest-binder", now=now)
    click.echo(f"On: {found.unit}. It starts at your next sign-in{', and now' if now else ''}.")
    click.echo(_LINGERS if found.lingering else _NO_LINGER)


@command.command(name="off", short_help="Start by hand only.")
def off() -> None:
    """Stop the service, disable it and remove its unit. What was started by hand goes on."""
    click.echo("Off." if autostart.switch_off() else "It was not on.")


@command.command(name="status", short_help="Show how it is.")
@as_json
def status(as_json: bool) -> None:
    """Whether it starts at your sign-in, runs now, and goes on when you have signed out."""
    found = autostart.status()
    if as_json:
        print_json({"enabled": found.enabled, "active": found.active, "lingering": found.lingering})
        return
    click.echo(f"Starts at sign-in: {'yes' if found.enabled else 'no'}")
    click.echo(f"Runs now as a service: {'yes' if found.active else 'no'}")
    click.echo(_LINGERS if found.lingering else _NO_LINGER)
