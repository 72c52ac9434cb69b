"""What the confirmation offers for a person's files, and what a choice means."""

from __future__ import annotations

import pytest
from house import COMMIT, OLDER, project_view

from tljh_plugin.errors import InvalidOptions, NotFound
from tljh_plugin.service.pages.confirm import choices, options_for
from tljh_plugin.source.spec import parse_link
from tljh_plugin.wire import ProjectView

SPEC = parse_link("gh/owner/repo/main")
HERE, THERE = project_view("here-1"), project_view("there-1", commit=OLDER)


@pytest.mark.parametrize(
    ("projects", "offered"),
    [
        ([], ["project", "ephemeral"]),
        ([HERE], ["project:here-1", "new", "ephemeral"]),
        ([THERE], ["project:there-1", "new", "ephemeral"]),
        ([THERE, HERE], ["project:there-1", "project:here-1", "new", "ephemeral"]),
    ],
)
def test_a_persons_own_files_come_first_and_nothing_is_hidden(
    projects: list[ProjectView], offered: list[str]
) -> None:
    assert [each.value for each in choices(projects, COMMIT)] == offered


def test_a_project_at_an_older_commit_is_said_to_be_one() -> None:
    [first, second, _] = choices([THERE], COMMIT)
    assert OLDER[:7] in first.text
    assert COMMIT[:7] in second.text


def test_what_a_link_asks_for_comes_first() -> None:
    assert choices([THERE, HERE], COMMIT, "here-1")[0].value == "project:here-1"


@pytest.mark.parametrize(
    ("files", "projects", "commit", "project", "storage"),
    [
        ("project", [], COMMIT, "", "project"),
        ("ephemeral", [THERE], COMMIT, "", "ephemeral"),
        ("new", [THERE], COMMIT, "new", "project"),
        ("project:there-1", [THERE], OLDER, "", "project"),
        ("project:here-1", [HERE, THERE], COMMIT, "", "project"),
        ("project:here-2", [HERE, project_view("here-2")], COMMIT, "here-2", "project"),
    ],
)
def test_a_choice_becomes_options(
    files: str, projects: list[ProjectView], commit: str, project: str, storage: str
) -> None:
    found = options_for(files, SPEC, COMMIT, "lab/tree/a.ipynb", projects)
    assert (found.commit, found.project, found.storage) == (commit, project, storage)
    assert (found.repository, found.path) == ("gh/owner/repo/main", "lab/tree/a.ipynb")


def test_a_choice_that_was_not_offered_is_refused() -> None:
    with pytest.raises(NotFound, match="somebody-elses"):
        options_for("project:somebody-elses", SPEC, COMMIT, "", [HERE])
    with pytest.raises(InvalidOptions, match="/etc"):
        options_for("/etc", SPEC, COMMIT, "", [HERE])
