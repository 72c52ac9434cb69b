"""Every setting, error code and command is documented, and the reference is what the code says."""

from __future__ import annotations

import importlib.util
import re
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


def test_every_path_of_the_api_and_every_page_is_documented() -> None:
    from tljh_plugin.service.app import API_ROUTES, OWN_API_ROUTES, PAGE_ROUTES

    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    known = set(re.findall(r"[a-z0-9_.]+(?:/(?:\{\w+\}|[a-z]+|…))*", text))
    shapes = {re.sub(r"\{\w+\}|…", "*", path) for path in known}
    for route, *_ in [*API_ROUTES, *OWN_API_ROUTES, *PAGE_ROUTES]:
        shape = re.sub(r"(\(\[\^/\]\+\)|\(\.\+\))", "*", route).replace("\\", "").replace("/?", "")
        shape = shape.replace("repo/*/*", "repo/*")
        assert not shape or shape in shapes or shape == "oauth_callback", f"{route} is not in api.md"


def test_every_command_and_option_has_a_meaning() -> None:
    assert "| None |" not in generate.commands_page()
