"""What belongs to the hub's process holds in JupyterHub 5 as in 6: its unit tests, run once more there."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from running_hub import PYTHON_5, needs_5

ROOT = Path(__file__).parents[3]
FOLDERS = ("tests/unit/hub", "tests/unit/launch")
FILES = sorted(
    str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).glob("test_*.py")
)


def version(python: str) -> str:
    shown = subprocess.run(
        [python, "-c", "import jupyterhub; print(jupyterhub.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.strip()


@needs_5
def test_both_majors_are_there() -> None:
    assert version(sys.executable).startswith("6.")
    assert version(str(PYTHON_5)).startswith("5.")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Counter[str]]:
    """By file, how many of its tests passed, failed and were skipped with JupyterHub 5."""
    report = tmp_path_factory.mktemp("other") / "report.xml"
    done = subprocess.run(
        [str(PYTHON_5), "-m", "pytest", "-q", "-o", "junit_family=xunit1", f"--junit-xml={report}",
         "-p", "no:cacheprovider", *FOLDERS],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    print(done.stdout[-20_000:], done.stderr[-5_000:])
    found: dict[str, Counter[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        ended = {each.tag for each in case}
        kind = "failed" if ended & {"failure", "error"} else "skipped" if "skipped" in ended else "passed"
        found.setdefault(case.get("file", "?"), Counter())[kind] += 1
    return found


@needs_5
@pytest.mark.parametrize("file", FILES)
def test_the_hubs_own_tests_pass_with_jupyterhub_5(file: str, outcomes: dict[str, Counter[str]]) -> None:
    counts = outcomes[file]
    print(f"{file}: {dict(counts)}")
    assert counts["passed"] > 0
    assert counts["failed"] == 0
