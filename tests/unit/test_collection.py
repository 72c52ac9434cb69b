"""pytest looks into every folder that holds tests."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def test_no_folder_with_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    """pytest passes some names over without a word; `build` is one of them by default."""
    passed_over = pytestconfig.getini("norecursedirs")
    places = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    own = [place for place in places if not {".state", "repositories"} & set(place.parts)]
    assert Path("unit/build") in own
    for place in own:
        wrong = [part for part in place.parts if any(fnmatch(part, pattern) for pattern in passed_over)]
        assert not wrong, f"pytest does not look into tests/{place}"
