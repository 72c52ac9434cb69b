"""Which of a person's projects a request means."""

from __future__ import annotations

import pytest

from tljh_plugin.errors import NotFound, ProjectAtOtherCommit, ProjectError
from tljh_plugin.projects.prepare import choose
from tljh_plugin.store import ProjectRow
from tljh_plugin.wire import PrepareRequest

REPOSITORY = "https://github.com/owner/repo"
OLD, NEW = "a" * 40, "b" * 40


def row(identifier: str, commit: str, last_used: str = "", repository: str = REPOSITORY) -> ProjectRow:
    return ProjectRow(
        id=identifier,
        owner="ann",
        repository=repository,
        spec="gh/owner/repo/main",
        commit=commit,
        subdir="",
        image_id="sha256:1",
        path=f"/projects/{identifier}/home",
        created="2026-01-01T00:00:00.000+00:00",
        last_used=last_used,
    )


def request(commit: str = NEW, project: str = "") -> PrepareRequest:
    return PrepareRequest(
        server="s",
        image_id="sha256:1",
        repository=REPOSITORY,
        spec="gh/owner/repo/main",
        commit=commit,
        project=project,
    )


def test_without_any_one_is_made() -> None:
    assert choose([], request()) is None
    assert choose([row("other", NEW, repository="https://elsewhere/x")], request()) is None


def test_the_one_at_the_commit_is_taken() -> None:
    assert choose([row("old", OLD, "2027"), row("new", NEW)], request()) == row("new", NEW)


def test_of_several_the_last_used_is_taken() -> None:
    rows = [row("first", NEW, "2027-01"), row("second", NEW, "2027-03"), row("third", NEW)]
    chosen = choose(rows, request())
    assert chosen is not None
    assert chosen.id == "second"


def test_only_ones_at_other_commits_are_a_question_to_the_person() -> None:
    with pytest.raises(ProjectAtOtherCommit) as caught:
        choose([row("older", "c" * 40, "2025"), row("old", OLD, "2027")], request())
    assert OLD[:12] in caught.value.message
    assert NEW[:12] in caught.value.message
    assert "`old`" in caught.value.next_step
    assert "`new`" in caught.value.next_step


def test_new_makes_another_one_in_any_case() -> None:
    assert choose([row("there", NEW)], request(project="new")) is None


def test_an_id_continues_at_whatever_commit() -> None:
    assert choose([row("old", OLD), row("new", NEW)], request(project="old")) == row("old", OLD)


def test_an_unknown_id_is_not_found() -> None:
    with pytest.raises(NotFound, match="nothing-here"):
        choose([row("old", OLD)], request(project="nothing-here"))


def test_an_id_of_another_repository_is_refused() -> None:
    with pytest.raises(ProjectError, match="elsewhere"):
        choose([row("other", NEW, repository="https://elsewhere/x")], request(project="other"))


def test_another_folder_of_the_repository_is_another_project() -> None:
    assert choose([row("there", NEW)], request(), subdir="docs") is None
