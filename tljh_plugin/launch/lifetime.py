"""Whether a server's time is over: by its profile's lifetime, or because nothing happened in it for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..amounts import shown_seconds
from .activity import Activity
from .running import Span

# Servers report to the hub every five minutes: two of these reports were missing.
_UNHEARD = timedelta(seconds=600)


@dataclass(frozen=True)
class Verdict:
    """`why` is a sentence for people, empty if it goes on; `last_activity` what was learned meanwhile."""

    why: str = ""
    last_activity: datetime | None = None


async def judge(
    span: Span,
    started: datetime | None,
    last_activity: datetime | None,
    now: datetime,
    look: Callable[[], Awaitable[Activity | None]],
) -> Verdict:
    """Whether a server ends at `now`. All times are UTC without a zone, as the hub keeps them.

    `look` asks the server itself, and only where the hub knows of no activity for long enough. A kernel that
    computes is activity. A server that does not answer is given the time of two more reports.
    """
    # First, and apart: an idle time that ended earlier must not hide it.
    over, _rule = replace(span, idle_s=0.0).end(started, None)
    if over is not None and now >= over:
        return Verdict(f"It ran for {shown_seconds(span.lifetime_s)}, which is its profile's limit.")
    end, _rule = span.end(started, last_activity)
    if end is None or now < end:
        return Verdict()
    active = end - timedelta(seconds=span.idle_s)
    said = await look()
    if said is None:
        if now < end + _UNHEARD:
            return Verdict()
        return _idle(now - active, span)
    heard = now if said.computing else min(said.last, now)
    if heard <= active:
        return _idle(now - active, span)
    if now < heard + timedelta(seconds=span.idle_s):
        return Verdict(last_activity=heard)
    return _idle(now - heard, span)


def _idle(time: timedelta, span: Span) -> Verdict:
    return Verdict(
        f"It was idle for {shown_seconds(time.total_seconds())}; "
        f"its profile allows {shown_seconds(span.idle_s)}."
    )
