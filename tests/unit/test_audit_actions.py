"""Every action of the audit log is explained to administrators."""

from __future__ import annotations

import re
from pathlib import Path

from tljh_plugin.operation.configuration.keys import all_keys

ROOT = Path(__file__).parents[2]
KINDS = "build|image|mirror|mount|project|retention|settings|storage"
NO_ACTIONS = ("css", "html", "js", "json", "py", "yaml")


def test_every_action_is_documented() -> None:
    found = {
        action
        for path in (ROOT / "tljh_plugin").rglob("*.py")
        for action in re.findall(rf'"((?:{KINDS})\.[a-z]+)"', path.read_text())
        if action.rpartition(".")[2] not in NO_ACTIONS
    } - {key.name for key in all_keys()}
    page = (ROOT / "docs" / "how-to" / "offer-images.md").read_text()
    assert {"image.pin", "mount.grant", "project.delete", "settings.change"} <= found
    assert {action for action in found if f"`{action}`" not in page} == set()
