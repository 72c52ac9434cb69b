"""Long runs in pieces: how often a test is repeated, and which cases of a soak run have passed already.

`@pytest.mark.rounds(few=3, soak=200)` repeats a test that takes the argument `round_number`: a few times in
every run, all of them with `--soak`. A soak run notes each case that passed in `LEDGER`, and the next one
leaves those out, until all have passed; then the next one begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import pytest

LEDGER = Path(__file__).parent / ".state" / "soak.passed"


class Ledger:
    """The cases of a soak run that passed, one node id a line."""

    def __init__(self, path: Path = LEDGER) -> None:
        self.path = path

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


class Soak:
    """The plugin of a soak run; `minutes` of 0 is without end."""

    def __init__(self, ledger: Ledger, minutes: float) -> None:
        self.ledger = ledger
        self.deadline = time.monotonic() + minutes * 60 if minutes else float("inf")
        self.before = 0
        self.late = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what has passed; if that is everything, begin anew.

        Round by round, so that a piece has some rounds of each test.
        """
        passed = self.ledger.passed()
        if items and not left(items, passed):
            self.ledger.begin_anew()
            passed = set()
        gone = [item for item in items if item.nodeid in passed]
        self.before = len(gone)
        config.hook.pytest_deselected(items=gone)
        items[:] = sorted(left(items, passed), key=_round)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if time.monotonic() > self.deadline:
            self.late += 1
            pytest.skip("left for the next piece of the soak run")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A case has passed when its clean-up has found nothing left over."""
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


def repeat(metafunc: pytest.Metafunc) -> None:
    """`round_number` of a test with the mark `rounds`: its few, or with `--soak` all its rounds."""
    mark = metafunc.definition.get_closest_marker("rounds")
    if mark is not None:
        count = mark.kwargs["soak" if metafunc.config.getoption("soak") else "few"]
        metafunc.parametrize("round_number", range(count))
