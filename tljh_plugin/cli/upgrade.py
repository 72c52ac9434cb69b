"""`littlest-binder upgrade`: another version in place of this one, with a way back."""

from __future__ import annotations

import click

from .. import __version__
from ..operation import installed, upgrade
from ._operation import ask
from ._service import as_json, print_json, runs_async


@click.command(name="upgrade", short_help="Install another version, with a backup before and a way back.")
@click.argument("version", required=False, default="")
@click.option("--dry-run", is_flag=True, help="Only say what would be installed and restarted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def command(version: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Install VERSION (a version, a wheel, or a folder with the project; default: the newest) in place of
    this one.

    A backup is taken, the store is migrated, the service is started again and asked whether it works; the hub
    is restarted only if what it has loaded changed. If something fails, this version and its store come back.
    Running servers are not touched. On a desktop end `littlest-binder up` first.
    """
    here = installed.find()
    plan = upgrade.decide(here, version)
    if not as_json:
        _show(plan)
    if dry_run or not plan.changes:
        if as_json:
            print_json({"version": __version__, "changes": [vars(each) for each in plan.changes]})
        return
    ask("Upgrade?", yes or as_json)
    done = await upgrade.carry_out(here, plan, lambda text: click.echo(text, err=True))
    if as_json:
        print_json(
            {
                "before": done.before,
                "after": done.after,
                "backup": str(done.backup),
                "hub_restarted": done.hub_restarted,
            }
        )
    else:
        click.echo(f"Version {done.after} is installed; it was {done.before}.")


def _show(plan: upgrade.Plan) -> None:
    if not plan.changes:
        click.echo(f"Version {__version__} is what there is; nothing is to be done.")
    for each in plan.changes:
        click.echo(f"{each.name}: {each.before or '(new)'} → {each.after}")
    if plan.service_unit:
        click.echo("The service is stopped meanwhile; running servers go on, and nothing new starts.")
    if plan.hub_unit:
        click.echo("The hub is restarted if what it has loaded changed; running servers go on.")
