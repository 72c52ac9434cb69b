"""`littlest-binder link`: a new sign-in link for the installation that is running."""

from __future__ import annotations

import click

from ..desktop import new_link
from ..errors import HubUnavailable
from ..operation.at_home import answers
from ..operation.browser import open_browser
from ..settings import load_desktop
from ._display import has_display
from ._service import as_json, print_json, runs_async


@click.command(name="link", short_help="Print a new sign-in link (desktop).")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser instead, signed in.")
@as_json
@runs_async
async def command(in_browser: bool, as_json: bool) -> None:
    """On a desktop print a link that signs the owner in once, within the next minutes. The links of before
    stay good.

    With --open the browser is sent there without the link being shown; where there is no screen, or no
    browser comes, it is printed.
    """
    settings = load_desktop()
    if not await answers(settings):
        raise HubUnavailable(
            f"Nothing answers on port {settings.desktop.port} for {settings.state_dir}.",
            "Start it with `littlest-binder start`, or wait until it says that it is ready.",
        )
    address = new_link(settings)
    if in_browser and has_display() and await open_browser(address):
        return
    if as_json:
        print_json({"url": address, "good_for_s": settings.desktop.sign_in_link_s})
    else:
        click.echo(address)
