"""`littlest-binder uninstall`: The Littlest Binder goes, people's files stay."""

from __future__ import annotations

import click

from ..engine import Engine
from ..errors import UninstallRefused
from ..operation import installed, uninstall
from ._operation import ask
from ._service import as_json, print_json, runs_async


@click.command(name="uninstall", short_help="Take The Littlest Binder off this machine; people's files stay.")
@click.option("--erase-data", is_flag=True, help="Images, store, settings and people's files as well.")
@click.option("--stop-servers", is_flag=True, help="End servers that run.")
@click.option("--dry-run", is_flag=True, help="Only say what would go and what would stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def command(erase_data: bool, stop_servers: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Say what goes and what stays, ask, and remove it.

    Settings, the store, backups, images and all that people made stay, unless `--erase-data` is given; then
    the name of the state folder has to be typed. On TLJH the hub is restarted and works as it did without us.
    It can be run again after it was interrupted.
    """
    here = installed.find()
    engine = Engine(here.instance or "none", timeout_s=here.settings.docker.timeout_s)
    try:
        plan = await uninstall.decide(here, uninstall.Wish(erase_data, stop_servers), engine)
        if not as_json:
            _show(plan)
        if dry_run:
            if as_json:
                print_json({"goes": list(plan.goes), "stays": list(plan.stays)})
            return
        _confirm(plan, yes or (as_json and not erase_data))
        report = await uninstall.carry_out(plan, engine, lambda text: click.echo(text, err=True))
    finally:
        await engine.close()
    if as_json:
        print_json({"removed": list(report.removed), "left": list(report.left)})
        return
    for each in report.left:
        click.echo(f"stays: {each}")
    click.echo("The Littlest Binder is uninstalled.")


def _show(plan: uninstall.Plan) -> None:
    click.echo("What goes:")
    for each in plan.goes:
        click.echo(f"  - {each}")
    click.echo("What stays:")
    for each in plan.stays:
        click.echo(f"  - {each}")
    if plan.docker_problem:
        click.echo(f"Docker cannot be asked: {plan.docker_problem}")


def _confirm(plan: uninstall.Plan, yes: bool) -> None:
    if not plan.wish.erase_data or yes:
        ask("Uninstall?", yes)
        return
    name = plan.installed.state_dir.name
    typed = click.prompt(
        f"Everything in it is lost. Type the name of the folder ({name})", err=True, default=""
    )
    if typed.strip() != name:
        raise UninstallRefused(f"{typed!r} is not the name of the folder.", f"Type `{name}`.")
