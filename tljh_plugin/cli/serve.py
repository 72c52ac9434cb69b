"""`littlest-binder serve`: the service `binder`, started by the hub (desktop) or by a service manager."""

from __future__ import annotations

import asyncio
import logging
import os

import click

from .. import handover
from ..operation import keeping
from ..operation.examples import ensure_examples


@click.command(short_help="Run the service (on a desktop the hub does this).")
@click.option("--keep", is_flag=True, help="Start it again at once when it is killed.")
def command(keep: bool) -> None:
    """Run the service `binder` until SIGTERM.

    On a desktop JupyterHub starts it; elsewhere a service manager does. Settings, and what JupyterHub tells
    its own services by environment variables, come from the file that the hub wrote into the state folder.
    """
    from ..service.app import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if keep:
        keeping.keep()
    given = handover.read(handover.find_state_dir())
    for name, value in given.environment.items():
        os.environ.setdefault(name, value)
    settings = given.settings()
    if settings.platform != "desktop":
        # There `littlest-binder up` does it before it starts the hub.
        asyncio.run(ensure_examples(settings))
    asyncio.run(serve(settings))
