"""`GET disk` and `GET disk/history`: who occupies the disk, and how that came."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from ...cache.mirrors import Kept
from ...errors import InvalidRequest
from ...wire import DiskHistoryView, MirrorView
from ..handler import ApiHandler

_MOST_DAYS = 730.0


class DiskState(ApiHandler):
    async def get(self) -> None:
        """Administrators: who occupies the disk, as it was measured last. Answers `DiskView`."""
        self.only_administrators()
        self.answer(self.context.disk.view())


class StoredMirrors(ApiHandler):
    async def get(self) -> None:
        """Administrators: the stored copies of repositories. Answers a list of `MirrorView`."""
        self.only_administrators()
        self.answer([_mirror(each) for each in await self.context.mirrors.all()])

    async def delete(self) -> None:
        """Administrators: remove those that no image needs; what went. One that a build reads at this moment
        stays. Answers a list of `MirrorView`.
        """
        self.only_administrators()
        gone = await self.context.mirrors.remove(self.person.name)
        self.context.disk.wake()
        self.answer([_mirror(each) for each in gone])


class DiskHistory(ApiHandler):
    async def get(self) -> None:
        """`?days=7`: administrators: what the filesystems held in the last days, thinned out with age.
        Answers `DiskHistoryView`.
        """
        self.only_administrators()
        days = read_days(self.get_query_argument("days", "7"))
        since = datetime.now(timezone.utc) - timedelta(days=days)
        self.answer(DiskHistoryView(samples=tuple(await self.context.disk.history(since))))


def _mirror(kept: Kept) -> MirrorView:
    return MirrorView(name=kept.name, bytes=kept.bytes, used=kept.used.isoformat(), needed=kept.needed)


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
