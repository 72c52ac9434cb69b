"""`POST retention`; `GET runs`, `GET|DELETE runs/{id}`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...access import is_admin
from ...cache.run import Run
from ...cache.views import plan_view, run_view
from ...errors import InvalidRequest, NotFound
from ...settings import RetentionSettings
from ...wire import RetentionView
from ..handler import ApiHandler, Handler

# How long an answer waits for the end of a run, which goes on without it.
_WAIT_S = 20.0


class RetentionRequest(BaseModel):
    """`POST retention`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dry_run: bool = False  #: only the plan
    policy: dict[str, Any] = {}  #: with `dry_run`: keys of the settings `retention` that differ in it


class RunRetention(ApiHandler):
    async def post(self) -> None:
        """Administrators: let images go by the policy, down to the low watermark. Answers `RetentionView`."""
        self.only_administrators()
        asked = self.body(RetentionRequest)
        if asked.policy and not asked.dry_run:
            raise InvalidRequest(
                f"The policy is to differ in {', '.join(asked.policy)} for one run.",
                "Change the settings, or send `dry_run`.",
            )
        retention, sweep = self.context.retention, self.context.sweep
        plan = await retention.preview(changed(retention.policy, asked.policy))
        begun = await retention.begin(self.person) if plan.take and not asked.dry_run else None
        run = await sweep.wait(begun.id, _WAIT_S) if begun else None
        usage = await retention.usage()
        self.answer(
            RetentionView(
                plan=plan_view(begun.plan if begun else plan),
                run=run_view(run) if run else None,
                used_percent=usage.percent if usage else None,
                total_bytes=usage.total if usage else None,
            )
        )


class Runs(ApiHandler):
    async def get(self) -> None:
        """Administrators: deletions of the last time, newest first. Answers a list of `RunView`."""
        self.only_administrators()
        self.answer([run_view(run) for run in await self.context.sweep.runs()])


class OneRun(ApiHandler):
    async def get(self, run_id: str) -> None:
        """A deletion as far as it is: what became of each image, what the disk gained. Answers `RunView`."""
        self.answer(run_view(await run_of(self, run_id)))

    async def delete(self, run_id: str) -> None:
        """Stop it after the image that it is at. Answers `RunView`."""
        run = await run_of(self, run_id)
        self.context.sweep.stop(run.id)
        self.answer(run_view(await self.context.sweep.wait(run.id, _WAIT_S)))


async def run_of(handler: Handler, run_id: str) -> Run:
    """A run, for administrators and for who began it. Raises `NotFound`."""
    run = await handler.context.sweep.run(run_id)
    if run is None or not (is_admin(handler.person) or run.by == handler.person.name):
        raise NotFound(f"There is no run {run_id[:40]!r}.", "Look at the list of runs.")
    return run


def changed(policy: RetentionSettings, keys: dict[str, Any]) -> RetentionSettings:
    """The policy with other values of some keys. Raises `InvalidRequest` naming the key and its value."""
    try:
        return RetentionSettings.model_validate({**policy.model_dump(), **keys})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "policy"
        raise InvalidRequest(
            f"`retention.{key}` has the value {first['input']!r:.80}: {first['msg']}.",
            f"Known keys: {', '.join(RetentionSettings.model_fields)}.",
        ) from None
