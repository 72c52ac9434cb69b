"""Every setting, error code and command is documented, and the reference is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
assert spec is not None
assert spec.loader is not None
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("page", sorted(generate.PAGES))
def test_the_reference_is_what_the_code_says(page: str) -> None:
    written = (DOCS / "reference" / page).read_text(encoding="utf-8")
    assert written == generate.PAGES[page](), "run `python docs/generate.py`"


def test_every_error_has_a_meaning() -> None:
    assert "|  |" not in generate.errors_page()


def test_every_setting_has_a_meaning() -> None:
    assert "| None |" not in generate.settings_page()
