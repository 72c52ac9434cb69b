"""Which ref is meant: exact names only."""

from __future__ import annotations

import pytest

from tljh_plugin.errors import AmbiguousRef, RefNotFound
from tljh_plugin.source.resolve import find, parse_refs
from tljh_plugin.source.spec import RepoSpec

ONE, TWO, THREE, TAG = ("1" * 40, "2" * 40, "3" * 40, "4" * 40)
REFS = parse_refs(
    f"ref: refs/heads/main\tHEAD\n{ONE}\tHEAD\n{TWO}\trefs/heads/feature/main\n{ONE}\trefs/heads/main\n"
    f"{ONE}\trefs/heads/both\n{TWO}\trefs/tags/both\n{ONE}\trefs/heads/same\n{ONE}\trefs/tags/same\n"
    f"{TAG}\trefs/tags/v1.0\n{THREE}\trefs/tags/v1.0^{{}}\n{TWO}\trefs/pull/7/head\n"
    f"{TWO}\trefs/heads/refs/heads/odd\n".encode()
)


def found(ref: str) -> tuple[str, str]:
    name = find(REFS, RepoSpec("gh", "o/r", ref))
    return name, REFS.commit(name)


@pytest.mark.parametrize(
    ("ref", "name", "commit"),
    [
        ("", "HEAD", ONE),
        ("main", "refs/heads/main", ONE),
        ("feature/main", "refs/heads/feature/main", TWO),
        ("refs/heads/main", "refs/heads/main", ONE),
        ("heads/main", "refs/heads/main", ONE),
        ("same", "refs/heads/same", ONE),
        ("refs/tags/both", "refs/tags/both", TWO),
        ("refs/pull/7/head", "refs/pull/7/head", TWO),
        ("pull/7/head", "refs/pull/7/head", TWO),
    ],
)
def test_exact_names_are_found(ref: str, name: str, commit: str) -> None:
    assert found(ref) == (name, commit)


def test_an_annotated_tag_gives_its_commit_and_not_the_tag_object() -> None:
    assert found("v1.0") == ("refs/tags/v1.0", THREE)


def test_a_branch_that_only_ends_in_the_name_is_not_meant() -> None:
    refs = parse_refs(f"{TWO}\trefs/heads/feature/main\n".encode())
    with pytest.raises(RefNotFound) as caught:
        find(refs, RepoSpec("gh", "o/r", "main"))
    assert "`feature/main`" in caught.value.next_step


def test_a_branch_and_a_tag_of_one_name_must_be_told_apart() -> None:
    with pytest.raises(AmbiguousRef) as caught:
        found("both")
    assert "`refs/heads/both` or `refs/tags/both`" in caught.value.next_step


def test_an_unknown_ref_names_what_is_near() -> None:
    with pytest.raises(RefNotFound, match="no branch or tag `mian`") as caught:
        found("mian")
    assert "`main`" in caught.value.next_step


def test_the_beginning_of_a_commit_is_not_enough() -> None:
    with pytest.raises(RefNotFound) as caught:
        found("1111111")
    assert "give all 40 digits" in caught.value.next_step


def test_a_path_after_the_ref_is_recognised() -> None:
    with pytest.raises(RefNotFound) as caught:
        found("feature/main/docs/index.ipynb")
    assert "There is `feature/main`; if `docs/index.ipynb` is a file" in caught.value.next_step


def test_an_empty_repository_says_so() -> None:
    with pytest.raises(RefNotFound, match="no commits yet"):
        find(parse_refs(b""), RepoSpec("gh", "o/r"))
