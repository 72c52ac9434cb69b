"""`GET disk` and `GET disk/history`: who occupies the disk, and how that came."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from ...errors import InvalidRequest
from ...wire import DiskHistoryView
from ..handler import ApiHandler

_MOST_DAYS = 730.0


class DiskState(ApiHandler):
    async def get(self) -> None:
        self.only_administrators()
        self.answer(self.context.disk.view())


class DiskHistory(ApiHandler):
    async def get(self) -> None:
        self.only_administrators()
        days = read_days(self.get_query_argument("days", "7"))
        since = datetime.now(timezone.utc) - timedelta(days=days)
        self.answer(DiskHistoryView(samples=tuple(await self.context.disk.history(since))))


def read_days(text: str) -> float:
    """A number of days of a query. Raises `InvalidRequest`."""
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days <= _MOST_DAYS:
        raise InvalidRequest(
            f"The query has `days={text:.40}`.", f"Send a number of days up to {_MOST_DAYS:g}."
        )
    return days
