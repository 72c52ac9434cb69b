"""What cannot be prevented is told to everybody who reads the security page."""

from __future__ import annotations

from pathlib import Path

import pytest
from attempts import Attempt
from attempts.kinds import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
THROUGH = [attempt for kind in KINDS for attempt in kind.ATTEMPTS if attempt.expected]


@pytest.mark.parametrize("attempt", THROUGH, ids=lambda attempt: attempt.name)
def test_what_a_server_gets_stands_on_the_security_page(attempt: Attempt) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"- **{attempt.page}**" in text.partition("## Not preventable")[2]


def test_an_attempt_without_a_control_says_why() -> None:
    for kind in KINDS:
        for attempt in kind.ATTEMPTS:
            assert (attempt.control is None) == bool(attempt.why), attempt.name


@pytest.mark.parametrize(
    "section", ["## By platform", "## Servers", "## Builds", "## Web", "## Not preventable"]
)
def test_the_page_keeps_servers_builds_and_the_web_apart(section: str) -> None:
    assert PAGE.read_text(encoding="utf-8").count(f"\n{section}\n") == 1
