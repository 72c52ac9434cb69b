"""Which calls to Docker were failed how, and what came of it, for all pieces of a soak run together.

What there is to try on a way is the list of calls of one good run, each with each fault; whoever comes first
notes it, and everybody else goes by that list, whatever Docker is asked more often today.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from docker_proxy import FAULTS, MANNERS, Call, Fault
from waiting import Overdue

# What became of a trial: as if nothing had been, an error that says why, or the fault never came.
RECOVERED, TOLD, ABSENT = "recovered", "told", "absent"
# Still going on when everything should long have been over; anything else that must not be.
HANG, FAILED = "hang", "failed"
_SHOWN = 20


@dataclass(frozen=True)
class Pair:
    """A call, and how it is failed."""

    what: str
    number: int
    fault: Fault

    @property
    def call(self) -> Call:
        return Call(self.what, self.number)

    @property
    def manner(self) -> str:
        [found] = [manner for manner, faults in MANNERS.items() if self.fault in faults]
        return found

    def __str__(self) -> str:
        return f"{self.fault} of {self.call}"


@dataclass
class Trial:
    """What is known of one so far."""

    pair: Pair
    ended: str = FAILED
    said: str = ""
    came: bool = False  # the fault, to what was asked


class Trials:
    """Those that are noted in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "trials"

    def pairs(self, way: str, calls: Iterable[Call]) -> list[Pair]:
        """Everything to try on this way, by `calls` unless it is noted already; always in one order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._list(way)
        if not path.exists():
            made = [asdict(pair) for pair in _in_order(calls)]
            ours = path.with_suffix(f".{secrets.token_hex(4)}")
            ours.write_text(json.dumps(made))
            # Another part of the run may be as far as we are: one list counts.
            with contextlib.suppress(FileExistsError):
                os.link(ours, path)
            ours.unlink()
        return self._noted(way)

    @contextlib.contextmanager
    def trying(self, way: str, pair: Pair) -> Iterator[Trial]:
        """Note what `ended` is set to within; of what raises, that it failed or had no end."""
        trial = Trial(pair)
        try:
            yield trial
        except Exception as error:
            overdue = isinstance(error, (Overdue, TimeoutError, asyncio.TimeoutError))
            trial.ended, trial.said = HANG if overdue else FAILED, str(error)[:300]
            raise
        finally:
            told = {"way": way, **asdict(trial)}
            with self._file.open("a") as file:
                file.write(json.dumps(told) + "\n")

    def summary(self) -> list[str]:
        """How many of all were tried, and what came of them; then each that is no good."""
        last = self._last()
        ways = {path.stem: self._noted(path.stem) for path in sorted(self.folder.glob("*.list"))}
        if not ways:
            return []
        lines, bad, total = [], [], Counter[str]()
        for way, pairs in ways.items():
            found = Counter(last[way, pair].ended for pair in pairs if (way, pair) in last)
            total += found
            lines.append(f"  {way}: {len(pairs)} in all; {_told(found, len(pairs))}")
            bad += [
                f"  {way}: {pair}: {trial.ended}: {trial.said}"
                for pair in pairs
                if (trial := last.get((way, pair))) and trial.ended in (HANG, FAILED)
            ]
        count = sum(len(pairs) for pairs in ways.values())
        head = f"Docker calls failed one by one, {count} in all: {_told(total, count)}"
        wanted = {(way, pair.call, pair.manner) for way, pairs in ways.items() for pair in pairs}
        seen = {
            (way, pair.call, pair.manner)
            for way, pairs in ways.items()
            for pair in pairs
            if (trial := last.get((way, pair))) and trial.ended not in (HANG, FAILED)
        }
        manners = " or ".join(MANNERS)
        each = f"  each call {manners}: {len(seen)} of {len(wanted)} ended well or did not come"
        return [head, each, *lines, *bad[:_SHOWN]]

    # -- within ---------------------------------------------------------------------------------------

    def _list(self, way: str) -> Path:
        return self.folder / f"{way}.list"

    def _noted(self, way: str) -> list[Pair]:
        return [Pair(**each) for each in json.loads(self._list(way).read_text())]

    def _last(self) -> dict[tuple[str, Pair], Trial]:
        """What was noted last of each pair: a trial that failed is repeated."""
        if not self._file.exists():
            return {}
        found = {}
        for line in self._file.read_text().splitlines():
            told = json.loads(line)
            pair = Pair(**told["pair"])
            found[told["way"], pair] = Trial(pair, told["ended"], told["said"], told["came"])
        return found


def _in_order(calls: Iterable[Call]) -> list[Pair]:
    """Each call with each fault, mixed in the same order each time.

    First comes each call with one fault of each manner, so that a run that ends there has seen every call go
    wrong in every manner; and a short run sees an answer that is late.
    """
    chance = random.Random(1)
    known = sorted(set(calls), key=str)
    first = [
        Pair(call.what, call.number, chance.choice(faults)) for call in known for faults in MANNERS.values()
    ]
    rest = [Pair(call.what, call.number, fault) for call in known for fault in FAULTS]
    rest = [pair for pair in rest if pair not in set(first)]
    chance.shuffle(first)
    chance.shuffle(rest)
    late = [place for place, pair in enumerate(first) if pair.fault == "late"]
    if late:
        first.insert(min(1, late[0]), first.pop(late[0]))
    return first + rest


def _told(found: Counter[str], count: int) -> str:
    tried = found.total() - found[ABSENT]
    return (
        f"{tried} tried, {found[RECOVERED]} recovered, {found[TOLD]} in a stated error, {found[HANG]} hang,"
        f" {found[FAILED]} failed; {found[ABSENT]} did not come, {count - found.total()} left"
    )
