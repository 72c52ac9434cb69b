from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.errors import InvalidOptions
from tljh_plugin.launch.options import LaunchOptions, parse

REPOSITORY = {"repository": "gh/owner/repo/main"}


def test_both_majors_shapes_give_the_same_options() -> None:
    five = {"repository": "gh/owner/repo/main", "path": "lab"}
    six = {"user_options": five}
    query_of_six = {"opt-repository": ["gh/owner/repo/main"], "opt-path": ["lab"]}
    assert parse(five) == parse(six) == parse(query_of_six)


@pytest.mark.parametrize(
    ("given", "meant"),
    [(["b", "a", "b"], ("a", "b")), ("a", ("a",)), (["a"], ("a",)), ([], ()), (("a",), ("a",))],
)
def test_mounts_come_as_one_text_or_many_and_mean_a_set(given: Any, meant: tuple[str, ...]) -> None:
    options = parse({**REPOSITORY, "mounts": given, "my_files": "1"})
    assert (options.mounts, options.my_files) == (meant, True)
    assert parse(options.model_dump()) == parse(options.model_dump(mode="json")) == options


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({**REPOSITORY, "mounts": ["/etc"]}, "/etc"),
        ({**REPOSITORY, "mounts": ["lab", "../x"]}, "not a path"),
        ({**REPOSITORY, "mounts": [["lab", "x"], "y"]}, "mounts"),
        ({**REPOSITORY, "mounts": "/etc"}, "not a path"),
        ({**REPOSITORY, "mounts": {"lab": "/etc"}}, "mounts"),
        ({**REPOSITORY, "mounts": [f"m{n}" for n in range(51)]}, "50"),
        ({**REPOSITORY, "my_files": "/etc"}, "my_files"),
        ({**REPOSITORY, "cmd": "sh"}, "cmd"),
        ({**REPOSITORY, "project": "../../etc"}, "not a path"),
        ({**REPOSITORY, "project": "/srv/data"}, "/srv/data"),
        ({"image": "debian:latest"}, "debian:latest"),
        ({"image": "/var/lib/x"}, "not a name or a path"),
        ({**REPOSITORY, "commit": "abc123"}, "40"),
        ({**REPOSITORY, "storage": "host"}, "host"),
        ({}, "either"),
        ({**REPOSITORY, "image": "sha256:" + "0" * 64}, "either"),
        ({**REPOSITORY, "path": "https://elsewhere.example/"}, "your own server"),
        ({**REPOSITORY, "path": "//elsewhere.example/"}, "your own server"),
        ({**REPOSITORY, "path": "/\\elsewhere.example/"}, "your own server"),
        ({**REPOSITORY, "path": "\\\\elsewhere.example/"}, "your own server"),
        ({**REPOSITORY, "path": "lab\r\nLocation: x"}, "your own server"),
        ({**REPOSITORY, "path": "../ada/lab"}, "your own server"),
        ({**REPOSITORY, "path": "lab/%2e%2E/%2e./x"}, "your own server"),
        ({**REPOSITORY, "path": "lab/..%2F..%2Fada"}, "your own server"),
        ({**REPOSITORY, "path": "lab/%252e%252e/x"}, "your own server"),
        ({"user_options": "no mapping"}, "no mapping"),
        ({**REPOSITORY, "repository": ["a", "b"]}, "repository"),
    ],
)
def test_bad_options_are_refused_with_their_value(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidOptions) as caught:
        parse(options)
    assert part in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize(
    "path", ["lab", "lab/tree/a%20b.ipynb", "rstudio/", "voila/render/x.ipynb?y=http://z", "/lab"]
)
def test_paths_on_the_own_server_arrive_intact(path: str) -> None:
    assert parse({**REPOSITORY, "path": path}).path == path.lstrip("/")


ANYTHING = st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=4)


@given(st.dictionaries(st.text(max_size=20), ANYTHING))
def test_anything_else_is_valid_or_an_error_for_people(options: dict[str, Any]) -> None:
    try:
        outcome: LaunchOptions | InvalidOptions = parse(options)
    except InvalidOptions as error:
        outcome = error
    assert isinstance(outcome, LaunchOptions) or (outcome.message and outcome.next_step)
