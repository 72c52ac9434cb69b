"""`littlest-binder link`: a new sign-in link for the installation that is running."""

from __future__ import annotations

import click

from ..desktop import new_link
from ..errors import HubUnavailable
from ..operation.at_home import answers
from ..settings import load_desktop
from ._service import as_json, print_json, runs_async


@click.command(name="link", short_help="Print a new sign-in link.")
@as_json
@runs_async
async def command(as_json: bool) -> None:
    """Print a link that signs the owner in once, within the next minutes. The links of before stay good."""
    settings = load_desktop()
    if not await answers(settings):
        raise HubUnavailable(
            f"Nothing answers on port {settings.desktop.port} for {settings.state_dir}.",
            "Start it with `littlest-binder up`, or wait until it says that it is ready.",
        )
    address = new_link(settings)
    if as_json:
        print_json({"url": address, "good_for_s": settings.desktop.sign_in_link_s})
    else:
        click.echo(address)
