"""Who used how much: server hours, memory hours, build minutes, kept bytes; by person, group or day.

Adding up (`add_up`) is pure; `Accounting` asks the store and the hub.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from ..errors import BinderError
from ..hub_api import HubApi
from ..moments import as_stored
from ..store import BuildTime, ServerRun, SizeRow, Store
from ..wire import AccountBy, AccountingView, AccountView

_GIB = 1024**3
_HOUR_S = 3600.0
_DAY = timedelta(days=1)
# A report of all days since 1970 would be of no use to anybody.
MOST_DAYS = 4000

Names = Callable[[str, Sequence[str], datetime], Iterable[str]]


@dataclass
class _Sum:
    servers: int = 0
    server_s: float = 0.0
    memory_byte_s: float = 0.0
    cpu_s: float = 0.0
    builds: int = 0
    build_s: float = 0.0
    kept: int | None = None
    whole: bool = True
    people: set[str] = field(default_factory=set)

    def view(self, name: str) -> AccountView:
        return AccountView(
            name=name,
            people=len(self.people),
            servers=self.servers,
            server_hours=round(self.server_s / _HOUR_S, 4),
            memory_gib_hours=round(self.memory_byte_s / _GIB / _HOUR_S, 4),
            cpu_hours=round(self.cpu_s / _HOUR_S, 4),
            builds=self.builds,
            build_minutes=round(self.build_s / 60, 3),
            kept_bytes=self.kept,
            whole=self.whole,
        )


class Accounting:
    """Reports for administrators."""

    def __init__(self, store: Store, hub: HubApi) -> None:
        self._store = store
        self._hub = hub

    async def view(self, by: AccountBy, since: str, until: str) -> AccountingView:
        """The time between two moments as the store keeps them. Raises `StoreError`.

        A server counts for the groups in which its person was when it started, kept bytes for those in which
        they are now; somebody in two groups counts in both.
        """
        runs = await self._store.server_runs.between(since, until)
        builds = await self._store.server_runs.builds_between(since, until)
        sizes = await self._store.sizes()
        groups = await self._groups() if by == "group" else {}
        rows = add_up(by, runs, builds, sizes.values(), groups, _read(since), _read(until))
        return AccountingView(since=since, until=until, by=by, rows=tuple(rows))

    async def _groups(self) -> Mapping[str, Sequence[str]]:
        """Of each person: as the hub says, else as they were when a server of theirs started last."""
        known: dict[str, Sequence[str]] = dict(await self._store.server_runs.last_groups())
        with suppress(BinderError):  # what was known before is better than no report
            known |= {user.name: user.groups for user in await self._hub.users()}
        return known


def add_up(
    by: AccountBy,
    runs: Iterable[ServerRun],
    builds: Iterable[BuildTime],
    sizes: Iterable[SizeRow],
    groups: Mapping[str, Sequence[str]],
    since: datetime,
    until: datetime,
) -> list[AccountView]:
    """One row a name, in the order of the alphabet (of time, by day).

    What goes on ends at `until` or when it was seen last. Kept bytes are those of now, and not told by day.
    A start and a build count where they began.
    """
    sums: dict[str, _Sum] = defaultdict(_Sum)
    names = _NAMES[by]
    for run in runs:
        began = _read(run.started)
        for start, end in _pieces(began, _read(run.ended or run.seen), since, until, by):
            seconds = (end - start).total_seconds()
            for name in names(run.person, run.groups, start):
                each = sums[name]
                each.people.add(run.person)
                each.servers += start == began
                each.server_s += seconds
                each.memory_byte_s += seconds * run.memory_bytes
                each.cpu_s += seconds * run.cpus
                each.whole = each.whole and run.exact
    for build in builds:
        began = _read(build.started)
        for start, end in _pieces(began, _read(build.ended) if build.ended else until, since, until, by):
            for name in names(build.person, build.groups, start):
                each = sums[name]
                each.people.add(build.person)
                each.builds += start == began
                each.build_s += (end - start).total_seconds()
    if by != "day":
        for size in sizes:
            for name in names(size.owner, groups.get(size.owner, ()), until):
                each = sums[name]
                each.people.add(size.owner)
                each.kept = (each.kept or 0) + size.bytes
                each.whole = each.whole and size.whole
    return [sums[name].view(name) for name in sorted(sums)]


def _pieces(
    began: datetime, ended: datetime, since: datetime, until: datetime, by: AccountBy
) -> Iterator[tuple[datetime, datetime]]:
    """The part between `since` and `until`, by day cut at midnight (UTC)."""
    start, end = max(began, since), min(ended, until)
    if end < start or start >= until:
        return
    while by == "day" and start.date() < end.date():
        midnight = datetime(start.year, start.month, start.day, tzinfo=timezone.utc) + _DAY
        yield start, midnight
        start = midnight
        if start == end:
            return
    yield start, end


def _by_group(_: str, groups: Sequence[str], __: datetime) -> Iterable[str]:
    return groups or ("",)


_NAMES: dict[AccountBy, Names] = {
    "person": lambda person, _, __: (person,),
    "group": _by_group,
    "day": lambda _, __, moment: (moment.date().isoformat(),),
}


def this_month(now: datetime) -> str:
    """Its beginning, as the store keeps moments."""
    return as_stored(datetime(now.year, now.month, 1, tzinfo=timezone.utc))


def _read(moment: str) -> datetime:
    return datetime.fromisoformat(moment)
