"""Long runs in pieces: how often a test is repeated, and which cases of a soak run have passed already.

`@pytest.mark.rounds(few=3, soak=200)` repeats a test that takes the argument `round_number`: a few times in
every run, all of them with `--soak`. A soak run notes each case that passed in `LEDGER`, and the next one
leaves those out, until all have passed; then the next one begins anew.

Rounds mostly wait, so that several runs side by side get through more of them: `--soak-part 1/2` and
`--soak-part 2/2` share the rounds and the ledger, and each has a Docker of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

_TURNS = 20
LEDGER = Path(__file__).parent / ".state" / "soak.passed"


class Ledger:
    """The cases of a soak run that passed, one node id a line; in `notes` is what else its pieces share."""

    def __init__(self, path: Path = LEDGER) -> None:
        self.path = path
        self.notes = path.with_name(f"{path.name}.notes")

    def passed(self) -> set[str]:
        try:
            return set(self.path.read_text().splitlines())
        except FileNotFoundError:
            return set()

    def add(self, case: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(f"{case}\n")

    def begin_anew(self) -> None:
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.notes, ignore_errors=True)


@dataclass(frozen=True)
class Part:
    """Which of the runs side by side this is, from 1, and of how many."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        number, _, of = text.partition("/")
        if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
            raise pytest.UsageError(f"--soak-part {text}: not a part such as 1/2 or 2/2")
        return cls(int(number), int(of))

    def has(self, item: pytest.Item) -> bool:
        return _round(item) % self.of == self.number - 1


class Soak:
    """The plugin of a soak run; `minutes` of 0 is without end."""

    def __init__(self, ledger: Ledger, minutes: float, part: Part) -> None:
        self.ledger = ledger
        self.part = part
        self.deadline = time.monotonic() + minutes * 60 if minutes else float("inf")
        self.before = 0
        self.late = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what has passed; if that is everything, begin anew.

        Modules take turns, of a twentieth of each of their tests, so that a piece has some of every test, and
        does not make anew what the tests of a module share with every round.
        """
        passed = self.ledger.passed()
        if items and not left(items, passed):
            self.ledger.begin_anew()
            passed = set()
        self.before = sum(item.nodeid in passed for item in items)
        wanted = [item for item in left(items, passed) if self.part.has(item)]
        chosen = set(wanted)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = sorted(wanted, key=lambda item: (_turn(item), item.path, _round(item)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if time.monotonic() > self.deadline:
            self.late += 1
            pytest.skip("left for the next piece of the soak run")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A case has passed when its clean-up has found nothing left over.

        A failure is shown at once: the end may be hours away.
        """
        if report.failed:
            print(f"\n{report.nodeid}\n{report.longreprtext}")
        if report.when == "call" and report.passed:
            self._called = report.nodeid
        if report.when == "teardown" and report.passed and getattr(self, "_called", "") == report.nodeid:
            self.ledger.add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.line(
            f"soak: {self.before} cases had passed before, {self.late} are left for the next piece"
            f" ({self.ledger.path})"
        )


def _round(item: pytest.Item) -> int:
    found = getattr(item, "callspec", None)
    return int(found.params.get("round_number", 0)) if found else 0


def _turn(item: pytest.Item) -> int:
    mark = item.get_closest_marker("rounds")
    return _round(item) * _TURNS // mark.kwargs["soak"] if mark else 0


def left(items: Iterable[pytest.Item], passed: set[str]) -> list[pytest.Item]:
    return [item for item in items if item.nodeid not in passed]


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption(
        "--soak",
        action="store_true",
        help="full counts; passed cases are noted, and a repeated run goes on with the others",
    )
    group.addoption(
        "--soak-minutes",
        type=float,
        default=0.0,
        metavar="N",
        help="end a soak run in order after N minutes: what has not begun by then is left for the next run",
    )
    group.addoption(
        "--soak-part",
        default="1/1",
        metavar="K/N",
        help="the Kth of N soak runs side by side, which share the rounds",
    )


def repeat(metafunc: pytest.Metafunc) -> None:
    """`round_number` of a test with the mark `rounds`: its few, or with `--soak` all its rounds."""
    mark = metafunc.definition.get_closest_marker("rounds")
    if mark is not None:
        count = mark.kwargs["soak" if metafunc.config.getoption("soak") else "few"]
        metafunc.parametrize("round_number", range(count))
