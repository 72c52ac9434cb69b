"""The settings in the how-to pages are settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tljh_plugin.settings import from_mapping

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
EXAMPLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```yaml\n(binder:.*?)^```", page.read_text(), re.S | re.M))
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_valid(text: str, tmp_path: Path) -> None:
    section = YAML(typ="safe").load(text)["binder"]
    from_mapping(section, platform="tljh", state_dir=tmp_path)
