"""The changelog has the version that is installed, in the form of Keep a Changelog."""

from __future__ import annotations

import re
from datetime import date
from importlib.metadata import version
from pathlib import Path

import tljh_plugin

ROOT = Path(__file__).parents[2]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
released = [each for each in headings if each != "[Unreleased]"]


def test_the_newest_version_is_this_one() -> None:
    assert released[0].startswith(f"[{tljh_plugin.__version__}] - ")
    assert "[Unreleased]" not in headings[1:]


def test_every_version_has_its_date_and_the_newest_is_first() -> None:
    found = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", each) for each in released]
    assert all(found), released
    rows = [(tuple(map(int, each.groups()[:3])), date.fromisoformat(each[4])) for each in found if each]
    assert rows == sorted(rows, reverse=True)


def test_changes_are_of_the_known_kinds() -> None:
    assert set(re.findall(r"^### (.+)$", changelog, re.MULTILINE)) <= KINDS


def test_the_package_takes_its_version_from_one_place() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    assert '[tool.hatch.version]\npath = "tljh_plugin/__init__.py"' in project
    assert version("the-littlest-binder") == tljh_plugin.__version__
