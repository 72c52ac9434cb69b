"""A plan that is carried out, or was: what became of each image, and what the disk gained.

Frozen values, and how the store keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from ..store import RunRow
from ..wire import ErrorView
from .plan import Item, Mode, Plan

Outcome = Literal["evicted", "erased", "gone", "kept", "failed", "not-done"]


@dataclass(frozen=True)
class Result:
    """What became of one image.

    `gone`: it was removed behind our back, and our record of it went. `kept`: something speaks for it that
    the plan did not know. `not-done`: the run was stopped, or cut off, before it. `freed_bytes` is what
    Docker's disk gained meanwhile, measured (below 0: it lost); builds that go on at the same time are in it.
    """

    image_id: str
    name: str
    outcome: Outcome
    text: str = ""
    freed_bytes: int = 0


@dataclass(frozen=True)
class Run:
    """A plan that is carried out (`finished` empty) or was, by a person or by `retention`.

    `gained_bytes` is by how much Docker's disk had more room at the end than at the beginning, measured;
    below 0 if others wrote more meanwhile.
    `problem` is why it ended before its end.
    """

    id: str
    mode: Mode
    by: str
    started: str
    plan: Plan
    finished: str = ""
    results: tuple[Result, ...] = ()
    gained_bytes: int = 0
    problem: ErrorView | None = None

    @property
    def taken(self) -> tuple[Result, ...]:
        """The images that went."""
        return tuple(each for each in self.results if each.outcome in ("evicted", "erased", "gone"))


def to_row(run: Run) -> RunRow:
    """As the store keeps it: what stays was shown with the plan, and would be most of each row."""
    return RunRow(
        id=run.id,
        mode=run.mode,
        by=run.by,
        started=run.started,
        finished=run.finished,
        plan=_json(asdict(replace(run.plan, keep=()))),
        results=results_json(run),
        gained_bytes=run.gained_bytes,
        problem=run.problem.model_dump_json() if run.problem else "",
    )


def results_json(run: Run) -> str:
    """What became of the images so far, as the store keeps it."""
    return _json([asdict(each) for each in run.results])


def from_row(row: RunRow) -> Run:
    """What `to_row` wrote; nothing of what was planned to stay."""
    return Run(
        id=row.id,
        mode=cast(Mode, row.mode),
        by=row.by,
        started=row.started,
        plan=_plan(json.loads(row.plan)),
        finished=row.finished,
        results=tuple(Result(**each) for each in json.loads(row.results)),
        gained_bytes=row.gained_bytes,
        problem=ErrorView.model_validate_json(row.problem) if row.problem else None,
    )


def _plan(said: Mapping[str, Any]) -> Plan:
    items = {key: tuple(Item(**each) for each in said[key]) for key in ("take", "keep")}
    return Plan(**{**said, **items})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
