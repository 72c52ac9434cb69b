"""`littlest-binder stop`: end Binder at home, wherever it runs."""

from __future__ import annotations

import click

from ..operation import background
from ..settings import load_desktop
from ._service import runs_async


@click.command(name="stop", short_help="Stop Binder at home (desktop).")
@runs_async
async def command() -> None:
    """On a desktop end Binder at home as Ctrl-C does: servers, service and hub end; files and images stay."""
    settings = load_desktop()
    if await background.stop(settings):
        click.echo("Stopped.")
    else:
        click.echo(f"Nothing runs for {settings.state_dir}.")
