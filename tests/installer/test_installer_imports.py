"""The installer runs where nothing is installed yet."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

INSTALLER = Path(__file__).resolve().parents[2] / "installer"
FILES = sorted(INSTALLER.rglob("*.py"))
OWN = {"steps", *(path.stem for path in INSTALLER.glob("*.py"))}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_is_imported(path: Path) -> None:
    assert imported(path) - OWN <= sys.stdlib_module_names


def test_it_starts_without_any_other_package() -> None:
    """`-S` leaves site-packages out, `-I` the current folder and the environment."""
    shown = subprocess.run(
        [sys.executable, "-S", "-I", str(INSTALLER / "bootstrap.py"), "desktop", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--no-browser" in shown.stdout


def test_a_python_that_is_too_old_reads_the_first_file() -> None:
    """Python 3.7 is the oldest that a machine in use may have: it must get as far as the sentence."""
    ast.parse((INSTALLER / "bootstrap.py").read_text(), feature_version=(3, 7))


def test_what_is_typed_wrong_is_refused_with_its_value() -> None:
    for arguments, value in ((["--port", "70000"], "70000"), (["--mirror", "ftp://x"], "ftp://x")):
        shown = subprocess.run(
            [sys.executable, str(INSTALLER / "bootstrap.py"), "desktop", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 2
        assert value in shown.stderr
