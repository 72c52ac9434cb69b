"""What `tests/run` promises of itself."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from leftovers import difference

ROOT = Path(__file__).resolve().parents[2]
# Becomes the parent of orphans, starts what is given, says what is left, and ends that.
LEFT = """
import os, sys
sys.path.insert(0, {tests!r})
import suite
suite.collect_orphans()
code = suite.run_to_the_end(["sh", "-c", sys.argv[1]], dict(os.environ))
left = suite.left_processes(set(), {grace_s})
print(code, *left, sep="\\n")
"""


def left_by(script: str, grace_s: float = 120.0) -> list[str]:
    shown = subprocess.run(
        [sys.executable, "-c", LEFT.format(tests=str(ROOT / "tests"), grace_s=grace_s), script],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return shown.stdout.splitlines()


def test_a_process_that_hides_from_its_parent_is_found() -> None:
    code, line = left_by("setsid env -i /bin/sleep 600 >/dev/null 2>&1 & exit 4", grace_s=1.0)
    assert code == "4"
    assert "sleep 600" in line
    number = int(line.split("process ")[1].split()[0])
    until_gone(number)


def until_gone(number: int) -> None:
    deadline = time.monotonic() + 120
    while Path(f"/proc/{number}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_is_about_to_end_is_not_reported() -> None:
    assert left_by("(sleep 0.3 &) >/dev/null 2>&1; exit 0") == ["0"]


def test_an_orphan_that_was_killed_is_gone_for_the_tests() -> None:
    script = (
        "p=$(sh -c 'sleep 600 >/dev/null 2>&1 & echo $!'); kill -9 $p;"
        " for i in $(seq 1200); do kill -0 $p 2>/dev/null || exit 0; sleep 0.05; done; exit 9"
    )
    assert left_by(script) == ["0"]


def test_what_came_and_what_went_is_said() -> None:
    before = {"network a": "network a bridge", "volume v": "volume v"}
    after = {"network a": "network a bridge", "container c": "container c web (debian)"}
    assert difference(before, after) == ["left behind: container c web (debian)", "gone: volume v"]
    assert difference(before, before) == []
