"""The text of `.git/config`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tljh_plugin.source.history import config
from tljh_plugin.source.mirror import State, Tag, folder_name


def value(path: Path, key: str) -> str:
    done = subprocess.run(
        ["git", "config", "--file", str(path), "--get", key], capture_output=True, text=True, check=True
    )
    return done.stdout.removesuffix("\n")


def test_git_reads_back_what_was_written_whatever_the_names(tmp_path: Path) -> None:
    file = tmp_path / "config"
    name = 'a "quoted] \\ name = x # y'
    file.write_text(config("https://h.org/a;b#c", {name: "https://h.org/x"}, partial=True, sha256=False))
    assert value(file, "remote.origin.url") == "https://h.org/a;b#c"
    assert value(file, f"submodule.{name}.url") == "https://h.org/x"
    assert value(file, "extensions.partialClone") == "origin"


def test_a_name_cannot_smuggle_settings_in(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        config("x", {'a"]\n[core]\n\tfsmonitor = evil\n[x "': "y\n[core]\nz=1"}, partial=False, sha256=False)
    )
    listed = subprocess.run(
        ["git", "config", "--file", str(file), "--list"], capture_output=True, text=True, check=True
    ).stdout
    assert not any(line.startswith(("core.fsmonitor", "core.z")) for line in listed.splitlines())


def test_urls_that_read_the_same_have_folders_of_their_own() -> None:
    names = {
        folder_name(url) for url in ("https://h.org/a-b/c", "https://h.org/a/b-c", "https://h.org/a/b/c")
    }
    assert len(names) == 3
    assert all(name.startswith("h-org-a-b-c-") for name in names)


def test_the_state_survives_its_file_and_a_torn_file_is_none() -> None:
    state = State(
        {"a" * 40: 5, "b" * 40: None}, 7, True, {"v1": Tag("c" * 40, ("d" * 40,)), "x": Tag("e" * 40, None)}
    )
    assert State.from_json(state.to_json()) == state
    assert State.from_json(state.to_json()[:-9]) is None
    assert State.from_json("") is None
