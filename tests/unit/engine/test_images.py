"""Promises of removing an image: names that were asked for go, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tljh_plugin.engine.images import remove
from tljh_plugin.errors import NotOurs


class Client:
    """Docker's client with one image."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.timeout = 60.0
        self.moved: dict[str, str] = {}  # names that another image has by now
        self.removed: list[str] = []

    def inspect_image(self, ref: str) -> dict[str, Any]:
        image = self.moved.get(ref, "sha256:1")
        return {"Id": image, "RepoTags": list(self.names)}

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return []

    def remove_image(self, name: str, **_: Any) -> None:
        self.removed.append(name)


def test_names_that_others_took_away_already_are_no_refusal() -> None:
    client = Client("their/image:1")
    remove(client, "sha256:1", ["littlest-binder/a-b:1-own"], 600.0)
    assert client.removed == []


def test_without_names_that_are_asked_for_only_ours_go() -> None:
    client = Client("their/image:1", "littlest-binder/a-b:1")
    remove(client, "sha256:1", None, 600.0)
    assert client.removed == ["littlest-binder/a-b:1"]
    with pytest.raises(NotOurs):
        remove(Client("their/image:1"), "sha256:1", None, 600.0)


def test_a_name_that_another_image_got_meanwhile_stays_there() -> None:
    client = Client("littlest-binder/a-b:1", "littlest-binder/a-b:2")
    client.moved["littlest-binder/a-b:1"] = "sha256:2"
    remove(client, "sha256:1", None, 600.0)
    assert client.removed == ["littlest-binder/a-b:2"]
