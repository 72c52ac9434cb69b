"""Lines of keys, in files as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tljh_plugin.yaml_places import Places

TEXT = """\
# the lab's
users: {admin: [ada]}
binder:
  servers:
    cpus: 2

    idle_s: 60   # a minute
  mounts:
    - id: a
      source: /srv/a
    - {id: b, source: /srv/b}
  limits: {groups: {
    lab: {cpus: 3}}}
  '0': zero
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("binder",), 3),
        (("binder", "servers", "idle_s"), 7),
        (("binder", "mounts", 0), 9),
        (("binder", "mounts", 0, "source"), 10),
        (("binder", "mounts", 1, "source"), 11),
        (("binder", "limits", "groups", "lab", "cpus"), 13),
        (("binder", "0"), 14),
        (("binder", "servers", "pids"), None),
        (("binder", "mounts", 2), None),
        (("binder", "servers", "cpus", "more"), None),
        ((), None),
    ],
)
def test_the_line_of_a_key(keys: tuple[str | int, ...], line: int | None) -> None:
    assert Places.of(TEXT).line(keys) == line


def test_a_key_that_is_not_there_is_near_the_one_around_it() -> None:
    assert Places.of(TEXT).nearest(("binder", "servers", "pids")) == 4
    assert Places.of(TEXT).nearest(("nowhere",)) is None


@pytest.mark.parametrize("text", ["", "a: [", "5", "- a"])
def test_what_has_no_keys_has_no_lines(text: str) -> None:
    assert Places.of(text).nearest(("binder",)) is None


def test_a_file_that_cannot_be_read_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"binder: \xe9\n")
    assert Places.of_file(tmp_path / "latin").line(("binder",)) is None
    assert Places.of_file(tmp_path / "nowhere").line(("binder",)) is None
