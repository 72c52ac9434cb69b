"""What `evict`, `erase` and `retention` share: which images are meant, the plan and the run on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal

import click
from rich.table import Table

from ..amounts import shown_gain
from ..client import ServiceClient
from ..errors import BinderError
from ..wire import DeletedView, PlanView, RetentionView, RunView
from . import FAILED
from ._images import find_image
from ._service import console, print_json, progress_bar, raised, service, size


async def delete(
    images: Sequence[str], mode: Literal["evict", "erase"], dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Show the plan, ask, carry it out; leaves with an exit code of 1 if an image stayed that was named."""
    async with service() as (_, client):
        known = await client.images()
        ids = [find_image(known, text).id for text in images]
        planned = await client.delete_images(ids, mode, dry_run=True)
        if not as_json:
            show_plan(planned.plan)
        done = planned
        if planned.plan.take and not dry_run:
            confirm(planned.plan, yes or as_json)
            done = await client.delete_images([item.image_id for item in planned.plan.take], mode)
        done = DeletedView(plan=planned.plan, run=await to_its_end(client, done.run))
    finish(done, as_json)
    if planned.plan.keep:
        raise click.exceptions.Exit(FAILED)


def show_plan(plan: PlanView) -> None:
    """What goes and what stays, each with its reason."""
    table = Table("image", "title", "frees", "rebuild", "why", box=None)
    for item in plan.take:
        table.add_row(
            item.image_id.removeprefix("sha256:")[:12],
            item.title,
            "not known" if item.frees_bytes is None else size(item.frees_bytes),
            "" if item.rebuild_s is None else f"{item.rebuild_s:.0f} s",
            item.text,
        )
    if plan.take:
        console().print(f"To {plan.mode}:")
        console().print(table)
    for item in plan.keep:
        if item.rule != "not-needed":
            console().print(f"stays: {item.title or item.name} · {item.text}")
    frees = "a size that Docker does not tell" if plan.frees_bytes is None else size(plan.frees_bytes)
    wanted = f" of {size(plan.wanted_bytes)} wanted" if plan.wanted_bytes else ""
    if plan.take:
        console().print(f"{_images(len(plan.take))}, which frees {frees}{wanted}.")
    else:
        console().print("Nothing is to go.")


def confirm(plan: PlanView, yes: bool) -> None:
    """Ask unless it was said already; `click.Abort` for no."""
    if not yes:
        click.confirm(f"{plan.mode.capitalize()} {_images(len(plan.take))}?", abort=True)


async def to_its_end(client: ServiceClient, run: RunView | None) -> RunView | None:
    """Follow a run with a bar."""
    if run is None or run.finished:
        return run
    with progress_bar() as bar:
        task = bar.add_task(f"{run.mode} · {run.id}", total=run.planned)
        async with aclosing(client.follow_run(run.id)) as steps:
            async for step in steps:
                run = step
                bar.update(task, completed=len(step.results))
    return run


def finish(done: DeletedView | RetentionView, as_json: bool) -> None:
    """Print what was done. Raises the error that ended a run early, and leaves with 1 if an image failed."""
    run = done.run
    if as_json:
        print_json(done)
    elif run is not None:
        for result in run.results:
            if result.outcome not in ("evicted", "erased"):
                console().print(f"{result.outcome}: {result.name} · {result.text}")
        went = sum(result.outcome in ("evicted", "erased", "gone") for result in run.results)
        console().print(f"{_images(went)} went; the disk gained {shown_gain(run.gained_bytes)} ({run.id}).")
    if run is not None and run.problem is not None:
        error: BinderError = raised(run.problem)
        raise error
    if run is not None and any(result.outcome in ("failed", "kept") for result in run.results):
        raise click.exceptions.Exit(FAILED)


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
