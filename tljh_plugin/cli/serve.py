"""`littlest-binder serve`: the service `binder`, started by the hub (desktop) or by a service manager."""

from __future__ import annotations

import asyncio
import os

import click

from .. import handover, log_lines
from ..operation import keeping
from ..operation.examples import ensure_examples


@click.command(short_help="Run the service (on a desktop the hub does this).")
@click.option("--keep", is_flag=True, help="Start it again at once when it is killed.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="From which level on it logs. Default: the setting `binder.monitoring.log_level`.",
)
def command(keep: bool, log_level: log_lines.LogLevel | None) -> None:
    """Run the service `binder` until SIGTERM.

    On a desktop JupyterHub starts it; elsewhere a service manager does. Settings, and what JupyterHub tells
    its own services by environment variables, come from the file that the hub wrote into the state folder.
    """
    from ..service.app import serve

    log_lines.set_up(log_level or "info")
    if keep:
        keeping.keep()
    given = handover.read(handover.find_state_dir())
    for name, value in given.environment.items():
        os.environ.setdefault(name, value)
    settings = given.settings()
    log_lines.set_level(log_level or settings.monitoring.log_level)
    if settings.platform == "tljh":
        # On a desktop `littlest-binder up` does it before it starts the hub.
        asyncio.run(ensure_examples(settings))
    asyncio.run(serve(settings))
