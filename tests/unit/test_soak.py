"""What `--soak` promises: full counts, in pieces, each case once."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
LAST = slice(-1, None)
CONFTEST = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import soak

def pytest_addoption(parser):
    soak.add_options(parser)

def pytest_configure(config):
    if config.getoption("soak"):
        ledger = soak.Ledger(Path(__file__).with_name("passed"))
        part = soak.Part.parse(config.getoption("soak_part"))
        config.pluginmanager.register(soak.Soak(ledger, config.getoption("soak_minutes"), part), "soak")

def pytest_generate_tests(metafunc):
    soak.repeat(metafunc)
"""
TEST = """
import os, pytest

@pytest.mark.rounds(few=2, soak=5)
def test_it(round_number):
    assert round_number != int(os.environ.get("BAD", -1))

@pytest.fixture
def dirty():
    yield
    assert not os.environ.get("DIRTY")

def test_clean_up(dirty):
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(TESTS)))
    (tmp_path / "test_it.py").write_text(TEST)
    return tmp_path


def run(project: Path, *arguments: str, lines: slice = LAST, **environment: str) -> str:
    """What pytest prints, the last line of it."""
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "-q", ".", *arguments],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return "\n".join(shown.stdout.splitlines()[lines])


def test_counts_are_small_without_it_and_nothing_is_noted(project: Path) -> None:
    assert "3 passed" in run(project)
    assert not (project / "passed").exists()


def test_a_repeated_run_goes_on_with_what_has_not_passed(project: Path) -> None:
    first = run(project, "--soak", BAD="3", DIRTY="1")
    assert "1 failed, 5 passed" in first
    assert "1 error" in first
    second = run(project, "--soak")
    assert "2 passed" in second
    assert "4 deselected" in second


def test_a_piece_has_rounds_of_every_test_and_few_changes_of_the_module(project: Path) -> None:
    long = TEST.replace("soak=5", "soak=50")
    (project / "test_it.py").write_text(long)
    more = TEST.replace("soak=5", "soak=100").replace("test_it", "test_more").replace("clean_up", "also")
    (project / "test_more.py").write_text(more)
    shown = run(project, "--soak", "--collect-only", lines=slice(None))
    found = re.findall(r"::test_(it|more)\[(\d+)\]", shown)
    assert len(found) == 150
    turns = [module for module, rounds in itertools.groupby(found, lambda each: each[0])]
    assert turns == ["it", "more"] * 20
    assert [int(number) for module, number in found if module == "it"] == list(range(50))
    # The longer one is not behind when the shorter one is half through.
    half = found.index(("it", "25"))
    assert 40 <= sum(module == "more" for module, _ in found[:half]) <= 60


def test_once_all_have_passed_a_run_begins_anew(project: Path) -> None:
    assert "6 passed" in run(project, "--soak")
    assert "6 passed" in run(project, "--soak")


def test_a_piece_ends_after_its_minutes(project: Path) -> None:
    assert "6 skipped" in run(project, "--soak", "--soak-minutes=0.0000001")
    assert "6 passed" in run(project, "--soak")


def test_parts_side_by_side_share_the_rounds_and_the_ledger(project: Path) -> None:
    assert "4 passed" in run(project, "--soak", "--soak-part=1/2")
    # It has nothing left, and the other part has: nothing begins anew.
    assert "6 deselected" in run(project, "--soak", "--soak-part=1/2")
    assert "2 passed" in run(project, "--soak", "--soak-part=2/2")
    assert "4 passed" in run(project, "--soak", "--soak-part=1/2")
    assert "not a part such as 1/2" in run(project, "--soak", "--soak-part=3/2", lines=slice(None))
