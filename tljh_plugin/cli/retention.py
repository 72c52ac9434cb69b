"""`littlest-binder retention`: let images go by the policy now, or see which would."""

from __future__ import annotations

import click

from ..wire import RetentionView
from ._deletion import confirm, finish, show_plan, to_its_end
from ._service import as_json, console, runs_async, service, size


@click.command(name="retention", short_help="Let images go by the policy of retention, or see which would.")
@click.option("--dry-run", is_flag=True, help="Only say what would go, and why the others stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@runs_async
async def command(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Bring Docker's disk down to `retention.low_watermark_percent` now, and the images into their budget.

    The service does so by itself when the disk is fuller than `retention.high_watermark_percent`.
    """
    async with service() as (_, client):
        done = await client.retention(dry_run=True)
        if not as_json:
            _show_disk(done)
            show_plan(done.plan)
        if done.plan.take and not dry_run:
            confirm(done.plan, yes or as_json)
            begun = await client.retention()
            done = begun.model_copy(update={"run": await to_its_end(client, begun.run)})
    finish(done, as_json)


def _show_disk(view: RetentionView) -> None:
    if view.used_percent is None or view.total_bytes is None:
        console().print("Docker's disk cannot be looked at.")
    else:
        console().print(f"Docker's disk has {size(view.total_bytes)}, {view.used_percent:.0f} % in use.")
