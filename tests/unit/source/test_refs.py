"""Which ref is meant: exact names only."""

from __future__ import annotations

import contextlib
import difflib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin import settings as binder_settings
from tljh_plugin.errors import AmbiguousRef, RefNotFound
from tljh_plugin.settings import Settings
from tljh_plugin.source import resolve
from tljh_plugin.source.credentials import Login
from tljh_plugin.source.git import NOTHING, Access
from tljh_plugin.source.resolve import Refs, Resolver, find, list_refs, parse_refs
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


# -- what a hostile server may send ---------------------------------------------------------------------


class Listing:
    """A repository and the git that lists it."""

    spec = RepoSpec("gh", "o/r")

    def __init__(self, output: bytes = b"") -> None:
        self.output = output
        self.most = 0

    @contextlib.contextmanager
    def opened(self, settings: Settings) -> Iterator[Access]:
        yield NOTHING

    async def run(self, *arguments: str, max_output: int = 256 * 1024**2, **more: object) -> bytes:
        self.most = max_output
        return self.output


class Counted(Resolver):
    """Asks nobody: each repository's list is as long as the number that it is named by."""

    asked = 0

    async def _look_up(self, spec: RepoSpec, everything: bool, login: Login | None) -> tuple[Refs, bool]:
        self.asked += 1
        size = int(spec.repository.split("-")[1])
        return Refs({"HEAD": ONE}, {}, size=size), False


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return binder_settings.from_mapping(
        {"source": {"resolve_cache_s": 600}}, platform="desktop", state_dir=tmp_path, owner="root"
    )


async def test_a_list_of_refs_is_bounded_and_not_read_on_the_event_loop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: Any = Listing(f"{ONE}\tHEAD\n".encode())
    readers = []

    def read(output: bytes) -> Refs:
        readers.append(threading.current_thread())
        return parse_refs(output)

    monkeypatch.setattr(resolve, "parse_refs", read)
    refs = await list_refs(given, settings, given)
    assert refs.commit("HEAD") == ONE
    assert given.most == 32 * 1024**2
    assert readers != [threading.current_thread()]


async def test_a_ref_is_not_looked_for_on_the_event_loop(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seekers = []

    def seek(refs: Refs, spec: RepoSpec) -> str:
        seekers.append(threading.current_thread())
        return find(refs, spec)

    monkeypatch.setattr(resolve, "find", seek)
    pinned = await Counted(settings).resolve(RepoSpec("gh", "o/r-1"))
    assert pinned.commit == ONE
    assert seekers != [threading.current_thread()]


@pytest.mark.parametrize(("names", "letters"), [(1001, 10), (2, 41), (1001, 190)])
def test_very_many_or_long_names_are_not_compared(
    monkeypatch: pytest.MonkeyPatch, names: int, letters: int
) -> None:
    compared = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda *given, **more: compared.append(given))
    ref = "a" * letters
    refs = Refs({f"refs/heads/{ref}{number}": ONE for number in range(names)}, {}, "refs/heads/main")
    with pytest.raises(RefNotFound) as caught:
        find(refs, RepoSpec("gh", "o/r", f"{ref}x"))
    assert "`main`" in caught.value.next_step
    assert not compared


def test_of_very_many_names_some_are_looked_at() -> None:
    refs = Refs({f"refs/heads/{number:05}/x": ONE for number in range(20_002)}, {})
    with pytest.raises(RefNotFound) as caught:
        find(refs, RepoSpec("gh", "o/r", "20001"))
    assert "There are: `00000/x`" in caught.value.next_step


def test_only_commits_count() -> None:
    refs = parse_refs(b"x\trefs/tags/v1^{}\n\trefs/tags/v2^{}\n" + f"{ONE}\trefs/tags/v3^{{}}\n".encode())
    assert (dict(refs.objects), dict(refs.peeled)) == ({}, {"refs/tags/v3": ONE})


def test_only_the_end_of_a_line_ends_it() -> None:
    refs = parse_refs(f"{ONE}\trefs/heads/a\u2028{TWO}\trefs/heads/main\n".encode())
    assert "refs/heads/main" not in refs.objects


async def test_answers_are_kept_by_their_size(settings: Settings) -> None:
    resolver = Counted(settings)
    small, large = RepoSpec("gh", "o/small-1000"), RepoSpec("gh", f"o/large-{9 * 1024**2}")
    for spec, asked in [(small, 1), (small, 1), (large, 2), (large, 3), (small, 3)]:
        await resolver.resolve(spec)
        assert resolver.asked == asked
    for number in range(20):
        await resolver.resolve(RepoSpec("gh", f"o/m{number}-{1024**2}"))
    assert sum(refs.size for _, (refs, _login) in resolver._kept.values()) <= 8 * 1024**2
    assert len(resolver._kept) == 8


async def test_what_is_too_old_is_not_held(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Counted(settings)
    moment = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    await resolver.resolve(RepoSpec("gh", "o/r-1"))
    moment += 601
    await resolver.resolve(RepoSpec("gh", "o/r-2"))
    assert len(resolver._kept) == 1
