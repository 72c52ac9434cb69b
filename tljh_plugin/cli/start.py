"""`littlest-binder start`: Binder at home in the background, and its page in the browser."""

from __future__ import annotations

import shutil
import subprocess

import click

from ..desktop import new_link
from ..errors import BinderError
from ..installation import ensure_state
from ..operation import background
from ..operation.browser import open_browser
from ..operation.waiting_page import waiting_page
from ..settings import load_desktop
from . import explain
from ._display import has_display
from ._service import runs_async


@click.command(name="start", short_help="Start Binder at home in the background, open its page (desktop).")
@click.option("--no-browser", is_flag=True, help="Print a sign-in link instead of opening the browser.")
@click.option("--menu", is_flag=True, help="For the menu entry: progress and errors are shown on a page.")
@runs_async
async def command(no_browser: bool, menu: bool) -> None:
    """On a desktop start Binder at home in the background unless it runs, wait for it, and open its page,
    signed in.

    `littlest-binder stop` ends it. Where the autostart is on, it is that service which is started. What it
    says is in `logs/up.log`.
    """
    if menu:
        await _with_a_page()
        return
    settings = load_desktop()
    ensure_state(settings)
    await background.ensure_running(settings, lambda line: click.echo(line, err=True))
    address = new_link(settings)
    if no_browser or not has_display() or not await open_browser(address):
        click.echo(address)


async def _with_a_page() -> None:
    failed: BinderError | None = None
    async with waiting_page() as page:
        try:
            settings = load_desktop()
            ensure_state(settings)
            await background.ensure_running(settings, page.say)
            page.arrive(new_link(settings))
        except BinderError as error:
            page.fail(explain(error))
            _notify(explain(error))
            failed = error
    if failed is not None:  # once it has been seen on the page
        raise failed


def _notify(text: str) -> None:
    """Where no browser could be opened, this may still be seen; it is shown besides the page."""
    program = shutil.which("notify-send")
    if program:
        subprocess.run(
            [program, "--app-name=The Littlest Binder", "The Littlest Binder did not start", text[:500]],
            capture_output=True,
            check=False,
            timeout=30,
        )
