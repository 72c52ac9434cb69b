"""Folders' names: readable, of safe letters, and different for different things."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tljh_plugin.launch.options import LaunchOptions
from tljh_plugin.projects.names import further_project_id, person_slug, project_id

REPOSITORY = "https://github.com/Owner/Some.Repo.git"


def test_names_are_readable() -> None:
    assert re.fullmatch(r"ann-lee-[0-9a-f]{8}", person_slug("Ann.Lee"))
    assert re.fullmatch(r"owner-some-repo-[0-9a-f]{8}", project_id(REPOSITORY))
    assert re.fullmatch(r"owner-some-repo-docs-[0-9a-f]{8}", project_id(REPOSITORY, "a/docs"))


def test_names_that_look_alike_differ() -> None:
    alike = ["a-b", "a.b", "a_b", "A-B", "a--b", "a-b/", "ä-b", "../a-b", ""]
    assert len({person_slug(name) for name in alike}) == len(alike)
    addresses = [
        "https://host/a-b/c",
        "https://host/a/b-c",
        "https://other/a/b-c",
        "https://host/A/b-c",
        "ssh://host/a/b-c",
    ]
    assert len({project_id(address) for address in addresses}) == len(addresses)
    assert project_id(REPOSITORY, "x") not in (project_id(REPOSITORY), project_id(REPOSITORY + "\nx"))


def test_the_own_project_has_the_same_id_each_time_and_further_ones_do_not() -> None:
    assert project_id(REPOSITORY) == project_id(REPOSITORY)
    assert len({further_project_id(REPOSITORY) for _ in range(20)} | {project_id(REPOSITORY)}) == 21


@given(st.text(max_size=300))
def test_no_text_gets_out_of_its_folder(text: str) -> None:
    for name in (person_slug(text), project_id(text), further_project_id(text, text)):
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,48}", name)
        LaunchOptions(repository="gh/a/b/c", project=name)
