"""The page of promises names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "promises.md").read_text(encoding="utf-8")
PROMISES = re.split(r"\n(?=\d+\. \*\*)", PAGE)[1:]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_promises_are_numbered_and_each_names_a_test() -> None:
    assert [promise.split(".")[0] for promise in PROMISES] == [str(n + 1) for n in range(len(PROMISES))]
    assert [promise for promise in PROMISES if not NAMED.search(promise)] == []


def test_each_named_test_exists() -> None:
    missing = [
        f"{file}::{name}" for file, name in NAMED.findall(PAGE) if name not in functions_of(ROOT / file)
    ]
    assert missing == []


def functions_of(path: Path) -> set[str]:
    """What pytest collects of a file: its functions that begin with `test_`."""
    if not path.exists():
        return set()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {each.name for each in body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
