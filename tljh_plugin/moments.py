"""Moments as people and programs write them, and as the store keeps them: UTC, ISO 8601, milliseconds."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, timezone

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def as_stored(moment: datetime) -> str:
    """A moment with a zone, so that it sorts as text among those of the store."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def read_moment(text: str, *, to_the_end: bool = False) -> str:
    """A date or a moment, as it is stored; UTC is meant where no zone is given.

    A date means its beginning, or with `to_the_end` its end. Raises `ValueError` for anything else.
    """
    text = text.strip()
    try:
        if _DATE.fullmatch(text):
            moment = datetime.combine(datetime.fromisoformat(text), time())
            moment += timedelta(days=1 if to_the_end else 0)
        else:
            moment = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return as_stored(moment)
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is no moment that can be kept") from None
