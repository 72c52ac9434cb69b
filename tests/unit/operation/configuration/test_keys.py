"""Every key can be explained, and what the explanation says to write is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from ruamel.yaml import YAML

from tljh_plugin.errors import SettingsError
from tljh_plugin.operation.configuration.file import find
from tljh_plugin.operation.configuration.keys import EFFECTIVE, Key, all_keys, look_up, survives
from tljh_plugin.operation.configuration.shown import in_force
from tljh_plugin.settings import Settings, from_mapping

KEYS = [pytest.param(each, id=each.name) for each in all_keys()]


def make(section: dict[str, Any], platform: Literal["tljh", "jupyterhub"] = "tljh") -> Settings:
    return from_mapping(section, platform=platform, state_dir=Path("/state"))


@pytest.mark.parametrize("key", KEYS)
def test_the_example_is_taken(key: Key) -> None:
    document = YAML(typ="safe").load(key.in_yaml())
    section = document["binder"]
    if key.name.startswith("mounts[]"):
        section["mounts"][0] = {"id": "x", "source": "/srv", **section["mounts"][0]}
    if key.name.startswith("profiles[]"):
        section["profiles"][0] = {"id": "x", **section["profiles"][0]}
    if key.name == "servers.home_mount":
        section["servers"]["identity"] = "unix"
    if key.name == "servers.profile":
        section["profiles"] = [{"id": key.example}]
    make(section, "jupyterhub" if key.not_on_tljh else "tljh")
    if key.not_on_tljh:
        with pytest.raises(SettingsError, match="TLJH says itself"):
            make(section, "tljh")


@pytest.mark.parametrize("key", KEYS)
def test_the_command_says_the_same_as_the_example(key: Key) -> None:
    command = key.tljh_config()
    if "[]" in key.name or key.not_on_tljh:
        assert command == ""
        return
    assert command.startswith(f"sudo tljh-config {'add-item' if key.is_list else 'set'} binder.{key.name} ")
    if isinstance(key.example, str):
        assert survives(key.example)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_says_what_it_holds(key: Key) -> None:
    assert key.field.description
    assert key.type
    assert key.default
    assert look_up(key.whole) == [key]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("servers.idle_s", "servers.idle_s"),
        ("binder.servers.idle_s", "servers.idle_s"),
        ("mounts.source", "mounts[].source"),
        ("binder.mounts.0.source", "mounts[].source"),
        ("mounts[3].source", "mounts[].source"),
        ("limits.groups.physics.cpus", "limits.groups.NAME.cpus"),
        ("retention.keep.newest", "retention.keep[].newest"),
    ],
)
def test_a_key_is_found_by_each_of_its_names(asked: str, name: str) -> None:
    assert [each.name for each in look_up(asked)] == [name]


def test_a_section_is_all_its_keys() -> None:
    assert {each.name for each in look_up("desktop")} == {
        f"desktop.{name}"
        for name in Settings.model_fields["desktop"].annotation.model_fields  # type: ignore[union-attr]
    }
    assert len(look_up("")) == len(KEYS)


@pytest.mark.parametrize(
    ("asked", "near"),
    [("servers.idle", "idle_s"), ("build.concurent", "build.concurrent"), ("nightly", "updates.nightly_at")],
)
def test_an_unknown_key_is_told_with_near_ones(asked: str, near: str) -> None:
    with pytest.raises(SettingsError) as caught:
        look_up(asked)
    assert near in caught.value.next_step


# -- what holds -----------------------------------------------------------------------------------------


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "users: {}\nbinder:\n  servers:\n    memory_bytes: 4GiB\n  policy:\n    dockerfile: null\n"
        "  profiles:\n    - id: large\n      cpus: 8\n  limits:\n    groups:\n      lab:\n        cpus: 3\n"
    )
    values = {each.key: each for each in in_force(find(path, "tljh"))}
    memory = values["binder.servers.memory_bytes"]
    assert (memory.shown, memory.source, memory.where) == ("4GiB", "file", f"{path}:4")
    assert values["binder.profiles.0.cpus"].line == 9
    assert values["binder.limits.groups.lab.cpus"].where == f"{path}:13"
    assert values["binder.build.concurrent"].source == "default"
    policy = values["binder.policy.dockerfile"]
    assert (policy.shown, policy.source, policy.where) == ("listed", "platform", "default on TLJH")
    assert values["binder.servers.uid"].value == 1000
    assert values["binder.storage.root"].value.endswith("/state/binder/projects")


def test_no_key_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("binder: {}\n")
    shown = {each.key.removeprefix("binder.") for each in in_force(find(path, "desktop"))}
    plain = {each.name for each in all_keys() if "[]" not in each.name and "NAME" not in each.name}
    assert plain <= shown


def test_defaults_that_depend_on_the_platform_are_properties() -> None:
    known = {each.name for each in all_keys()}
    for key, name in EFFECTIVE.items():
        assert key in known
        assert isinstance(getattr(Settings, name), property)
