"""Retention: what it would do now, under these settings or others, and what its runs did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import ValidationError

from ...amounts import shown_number, written_bytes
from ...cache.plan import Rule
from ...errors import BinderError, InvalidRequest
from ...settings import RetentionSettings
from ..texts import _
from .images import OfImages

# What a rule of a plan is called where images are counted by it.
RULES: dict[Rule, str] = {
    "in-use": _("in use"),
    "starting": _("being started"),
    "building": _("being built"),
    "pinned": _("pinned"),
    "young": _("too young"),
    "not-ours": _("not built here"),
    "ready": _("always offered"),
    "kept-by-rule": _("kept by a rule"),
    "other-name": _("named by others too"),
    "refused": _("refused lately"),
    "not-needed": _("could go, but need not"),
}
TRIED = (
    "high_watermark_percent",
    "low_watermark_percent",
    "max_bytes",
    "min_age_hours",
    "unused_days",
    "mode",
)
_MOST_SHOWN, _LATEST_RUNS = 100, 30


class RetentionPage(OfImages):
    """GET previews, also under other settings; POST runs it under those that hold."""

    tab = "retention"

    async def get(self) -> None:
        await self.show_preview()

    async def post(self) -> None:
        try:
            run = await self.context.retention.begin(self.person)
        except BinderError as error:
            await self.show_preview(error)
            return
        page = f"runs/{run.id}" if run is not None else "retention"  # where nothing is to go, it says so
        self.redirect(f"{self.prefix}{page}", status=303)

    async def show_preview(self, problem: BinderError | None = None) -> None:
        """The page, with what went wrong above it."""
        holds = self.context.retention.policy
        typed = {name: self.get_query_argument(name, "").strip() for name in TRIED}
        policy = holds
        try:
            policy = policy_of(typed, holds)
        except InvalidRequest as error:
            problem = error
        plan = await self.context.retention.preview(policy)
        rules = Counter(each.rule for each in plan.keep)
        self.show(
            "retention.html",
            status=problem.http_status if problem else 200,
            problem=problem,
            enabled=self.context.retention.enabled,
            policy=policy,
            fields={name: typed[name] or field_of(policy, name) for name in TRIED},
            tried=policy != holds,
            changed=changed(policy, holds),
            plan=plan,
            take=plan.take[:_MOST_SHOWN],
            more=max(0, len(plan.take) - _MOST_SHOWN),
            rules=rules.most_common(),
            rule_names=RULES,
            keep=plan.keep[:_MOST_SHOWN],
            more_kept=max(0, len(plan.keep) - _MOST_SHOWN),
            rebuild_s=sum(each.rebuild_s or 0 for each in plan.take),
            runs=await self.context.sweep.runs(_LATEST_RUNS),
            stale=self.stale(),
        )


def policy_of(typed: Mapping[str, str], holds: RetentionSettings) -> RetentionSettings:
    """The settings that hold with what was typed instead; raises `InvalidRequest` naming the field."""
    given = {name: value for name, value in typed.items() if value}
    try:
        return RetentionSettings.model_validate({**holds.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        said = f"`{name}` has the value {given.get(name, '')[:40]!r}: " if name in given else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{said}{reason}.", "Correct it and preview again.") from None


def field_of(policy: RetentionSettings, name: str) -> str:
    """A setting as it is typed."""
    value = getattr(policy, name)
    if name == "max_bytes":
        return written_bytes(value)
    return value if isinstance(value, str) else shown_number(value)


def changed(policy: RetentionSettings, holds: RetentionSettings) -> list[tuple[str, str]]:
    """What is to be written into the settings so that a tried policy holds."""
    return [(name, field_of(policy, name)) for name in TRIED if getattr(policy, name) != getattr(holds, name)]
