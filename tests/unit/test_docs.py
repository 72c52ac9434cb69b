"""Every setting, error code and command is documented, and the reference is what the code says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

DOCS = Path(__file__).parents[2] / "docs"

sys.path.insert(0, str(DOCS))
generate = importlib.import_module("generate")


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

    text = "".join(
        (DOCS / "reference" / page).read_text(encoding="utf-8") for page in ("api.md", "requests.md")
    )
    known = set(re.findall(r"[a-z0-9_.]+(?:/(?:\{\w+\}|[a-z]+|…))*", text))
    shapes = {re.sub(r"\{\w+\}|…", "*", path) for path in known}
    for route, *_ in [*API_ROUTES, *OWN_API_ROUTES, *PAGE_ROUTES]:
        shape = re.sub(r"(\(\[\^/\]\+\)|\(\.\+\))", "*", route).replace("\\", "").replace("/?", "")
        shape = shape.replace("repo/*/*", "repo/*")
        assert not shape or shape in shapes or shape == "oauth_callback", f"{route} is not in the reference"


def test_every_request_and_every_key_says_what_it_means() -> None:
    """A request without a docstring, or a key without a comment `#:`, stops the page being written."""
    requests_page = importlib.import_module("requests_page")

    class Silent:
        async def get(self) -> None: ...

    with pytest.raises(ValueError, match=r"Silent\.get does not say what it does"):
        list(requests_page.all_requests([("silent", Silent)]))

    class Mute(BaseModel):
        key: str

    with pytest.raises(KeyError, match=r"Mute\.key has no comment"):
        requests_page.answer_lines(Mute)


def test_every_command_and_option_has_a_meaning() -> None:
    assert "| None |" not in generate.commands_page()
