"""Attempts to get at what belongs to others: the machine, other people, other repositories.

Each test here carries `@pytest.mark.attack("class", preventable=…)`. What cannot be prevented is shown to
work, so that nobody believes otherwise, and stands in `docs/explanation/security.md`. A run ends with a table.
"""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker("attack")
        if mark is not None:
            item.user_properties.append(("attack", (mark.args[0], mark.kwargs.get("preventable", True))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many attempts of each class were made, and what became of them."""
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            found = dict(getattr(report, "user_properties", [])).get("attack")
            if found is not None and getattr(report, "when", "call") == "call":
                name, preventable = found
                told = ("refused" if preventable else "documented") if outcome == "passed" else "FAILED"
                counts.setdefault(name, Counter())[told] += 1
    if counts:
        terminalreporter.section("attacks")
        for name, told in sorted(counts.items()):
            said = ", ".join(f"{number} {what}" for what, number in sorted(told.items()))
            terminalreporter.line(f"{name}: {said}")
