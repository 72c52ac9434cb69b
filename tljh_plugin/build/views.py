"""Builds as the other processes see them: rows, hits and errors as values of `wire`."""

from __future__ import annotations

from typing import cast

from ..errors import BinderError
from ..store import BuildRow, ImageRow
from ..wire import BuildView, ErrorView, LogLine, Phase
from .log import FINAL_PHASES


def build_view(
    row: BuildRow, *, phase: Phase, progress: int, position: int = 0, joined: bool = False
) -> BuildView:
    """A build; `phase` and `progress` may be newer than in the row, `position` counts from 1."""
    return BuildView(
        id=row.id,
        state=row.state,
        phase=phase,
        progress=progress,
        spec=row.spec,
        repository=row.url,
        commit=row.commit,
        requested_by=row.requested_by,
        joined=joined,
        no_cache=row.no_cache,
        request=row.request,
        position=position,
        image_id=row.image_id,
        image_name=row.image_name,
        visibility=row.visibility,
        groups=row.groups,
        error=stored_error(row),
        created=row.created,
        started=row.started,
        finished=row.finished,
    )


def hit_view(image: ImageRow, row: BuildRow | None) -> BuildView:
    """An image that was there; `row` is the build that made it, if it is known."""
    return BuildView(
        id=image.build_id,
        state="built",
        phase="built",
        progress=100,
        spec=image.spec,
        repository=image.url,
        commit=image.commit,
        requested_by=image.built_by,
        hit=True,
        image_id=image.image_id,
        image_name=image.name,
        visibility=image.visibility,
        groups=image.groups,
        created=row.created if row else image.created,
        started=row.started if row else "",
        finished=row.finished if row else image.created,
    )


def final_line(row: BuildRow, number: int) -> LogLine:
    """How a build ended, as the last line of its log; raises `ValueError` if it has not."""
    if row.state not in FINAL_PHASES:
        raise ValueError(f"build {row.id} has not ended: {row.state}")
    built = row.state == "built"
    return LogLine(
        n=number,
        time=row.finished,
        phase=cast(Phase, row.state),
        text=f"Built {row.image_name}." if built else f"{row.error_message} {row.error_next}".strip(),
        progress=100 if built else None,
        error=None if built else stored_error(row),
        image_id=row.image_id if built else "",
    )


def stored_error(row: BuildRow) -> ErrorView | None:
    if not row.error_code:
        return None
    return ErrorView(code=row.error_code, message=row.error_message, next=row.error_next, request=row.request)


def error_view(error: BinderError) -> ErrorView:
    return ErrorView(code=error.code, message=error.message, next=error.next_step)
