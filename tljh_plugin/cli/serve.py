"""`littlest-binder serve`: the service `binder`, started by the hub (desktop) or by a service manager."""

from __future__ import annotations

import asyncio
import os
from functools import partial

import click

from .. import handover, log_lines
from ..errors import BinderError
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
    When a hub that was configured anew writes others there, the service begins anew with them.
    """
    from ..service.app import serve
    from ..service.sockets import Sockets

    log_lines.set_up(log_level or "info")
    if keep:
        keeping.keep()
    state_dir = handover.find_state_dir()
    own, again = dict(os.environ), True
    with Sockets() as sockets:
        while again:
            given = handover.read(state_dir)
            os.environ.update({**given.environment, **own})
            settings = given.settings()
            log_lines.set_level(log_level or settings.monitoring.log_level)
            if settings.platform == "tljh":
                # On a desktop `littlest-binder up` does it before it starts the hub.
                asyncio.run(ensure_examples(settings))
            again = asyncio.run(serve(settings, sockets, partial(_others, given)))


def _others(given: handover.Handover) -> bool:
    """Whether a hub has handed over settings other than `given`, and good ones. A hub that starts the service
    itself, and hands it no environment, starts it with them.
    """
    if not given.environment:
        return False
    try:
        now = handover.read(given.state_dir)
        now.settings()
    except BinderError:
        return False
    return (now.section, now.environment) != (given.section, given.environment)
