"""Deleting images: first the plan, then the run with what the disk really gained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast, get_args
from urllib.parse import urlencode

from ...cache.listing import Query, found
from ...cache.plan import Mode, Plan
from ...cache.run import Outcome, Run
from ...errors import BinderError, InvalidRequest, NotFound
from ..texts import _
from .images import OfImages

OUTCOMES: dict[Outcome, str] = {
    "erased": _("erased"),
    "evicted": _("evicted"),
    "gone": _("was gone already"),
    "kept": _("stays"),
    "failed": _("failed"),
    "not-done": _("not done"),
}
_MOST_SHOWN = 200


class PlanDeletion(OfImages):
    """GET shows what would go and what stays; POST carries it out, if it is still what was shown."""

    async def get(self) -> None:
        await self.show_plan()

    async def post(self) -> None:
        plan = await self.context.sweep.plan(self._selection(), self._mode(), self.person)
        if self.get_body_argument("seen", "") != fingerprint(plan):
            await self.show_plan(
                InvalidRequest(
                    "What would go has changed since the plan was shown.",
                    "Look at it again.",
                    code="plan-changed",
                )
            )
            return
        run = await self.context.sweep.begin(plan, self.person)
        self.redirect(f"{self.prefix}runs/{run.id}", status=303)

    async def show_plan(self, problem: BinderError | None = None) -> None:
        """The plan, with what went wrong above it."""
        mode, ids = self._mode(), self._selection()
        plans = {each: await self.context.sweep.plan(ids, each, self.person) for each in get_args(Mode)}
        plan = plans[mode]
        selection = self._fields(ids)
        self.show(
            "plan.html",
            status=409 if problem else 200,
            problem=problem,
            mode=mode,
            plan=plan,
            take=plan.take[:_MOST_SHOWN],
            keep=plan.keep[:_MOST_SHOWN],
            rebuild_s=sum(each.rebuild_s or 0 for each in plan.take),
            frees={each: plans[each].frees_bytes for each in plans},
            ways={
                each: f"{self.prefix}images/plan?{urlencode([*selection, ('mode', each)])}" for each in plans
            },
            selection=selection,
            seen=fingerprint(plan),
            stale=self.stale(),
        )

    def _mode(self) -> Mode:
        mode = self.get_argument("mode", "") or "erase"
        if mode not in get_args(Mode):
            raise InvalidRequest(f"`mode` has the value {mode[:40]!r}.", "It is `erase` or `evict`.")
        return cast(Mode, mode)

    def _selection(self) -> list[str]:
        if self.get_argument("all", "") == "1":
            query = Query.of({name: self.get_argument(name, "") for name in ("q", "show")})
            return [each.id for each in found(self.listed(), query)]
        ids = list(dict.fromkeys(self.get_arguments("id")))
        if not ids:
            raise InvalidRequest("No image was selected.", "Go back and tick the images that may go.")
        return ids

    def _fields(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        """What the selection is made from again; that of a whole search is not spelled out."""
        if self.get_argument("all", "") == "1":
            names = ("q", "show", "all")
            return [(name, value) for name in names if (value := self.get_argument(name, ""))]
        return [("id", each) for each in ids]


class RunPage(OfImages):
    tab = "retention"

    async def get(self, run_id: str) -> None:
        run = await self.context.sweep.run(run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id[:40]!r}.", "Look at the list of runs.")
        self.show(
            "run.html",
            run=run,
            rows=rows_of(run)[:_MOST_SHOWN],
            more=max(0, len(run.plan.take) - _MOST_SHOWN),
            outcomes=OUTCOMES,
            went=sum(each.outcome in ("erased", "evicted", "gone") for each in run.results),
        )


class StopRun(OfImages):
    tab = "retention"

    async def post(self, run_id: str) -> None:
        self.context.sweep.stop(run_id)
        self.redirect(f"{self.prefix}runs/{run_id}", status=303)


def rows_of(run: Run) -> list[dict[str, object]]:
    """Each image of a run's plan with what became of it so far; those that are done come first."""
    results = {each.image_id: each for each in run.results}
    items = {each.image_id: each for each in run.plan.take}
    order = [*results, *(each for each in items if each not in results)]
    return [
        {
            "title": items[each].title if each in items else results[each].name,
            "name": items[each].name if each in items else results[each].name,
            "predicted": items[each].frees_bytes if each in items else None,
            "result": results.get(each),
        }
        for each in order
    ]


def fingerprint(plan: Plan) -> str:
    """What goes and how, in 16 digits: so that nothing else goes than what was shown."""
    return hashlib.sha256("\n".join([plan.mode, *sorted(plan.ids)]).encode()).hexdigest()[:16]
