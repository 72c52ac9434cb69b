"""Plans and runs as the API and the pages show them."""

from __future__ import annotations

from dataclasses import asdict

from ..wire import PlanItemView, PlanView, RunResultView, RunView
from .plan import Item, Plan
from .run import Run


def plan_view(plan: Plan) -> PlanView:
    """A plan as it crosses to who asked for it."""
    return PlanView(
        mode=plan.mode,
        take=tuple(_item_view(item) for item in plan.take),
        keep=tuple(_item_view(item) for item in plan.keep),
        frees_bytes=plan.frees_bytes,
        wanted_bytes=plan.wanted_bytes,
    )


def run_view(run: Run) -> RunView:
    """A run as far as it is."""
    return RunView(
        id=run.id,
        mode=run.mode,
        by=run.by,
        started=run.started,
        finished=run.finished,
        results=tuple(RunResultView(**asdict(result)) for result in run.results),
        gained_bytes=run.gained_bytes,
        planned=len(run.plan.take),
        planned_bytes=run.plan.frees_bytes,
        wanted_bytes=run.plan.wanted_bytes,
        problem=run.problem,
    )


def _item_view(item: Item) -> PlanItemView:
    return PlanItemView(**asdict(item))
