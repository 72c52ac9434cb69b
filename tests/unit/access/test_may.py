from __future__ import annotations

from dataclasses import dataclass

import pytest

from tljh_plugin.access import ADMIN_SCOPE, BUILD_SCOPE, Action, is_meant_for, may, may_build, may_share_with
from tljh_plugin.wire import Person, Visibility

ALICE, BOB = Person(name="alice"), Person(name="bob")
MEMBER = Person(name="carol", groups=("physics", "staff"))
ROOT = Person(name="root", admin=True)
DEPUTY = Person(name="deputy", scopes=(ADMIN_SCOPE,))


@dataclass(frozen=True)
class Thing:
    owner: str = "alice"
    visibility: Visibility = "everyone"
    groups: tuple[str, ...] = ()
    decided: bool = False


@pytest.mark.parametrize(
    ("person", "action", "visibility", "answer"),
    [
        (ALICE, "see", "private", True),
        (BOB, "see", "private", False),
        (BOB, "use", "private", False),
        (BOB, "see", "everyone", True),
        (BOB, "use", "everyone", True),
        (BOB, "cancel", "everyone", False),
        (ALICE, "cancel", "everyone", True),
        (BOB, "delete", "everyone", False),
        (ALICE, "delete", "everyone", False),
        (ALICE, "delete", "private", True),
        (ROOT, "delete", "private", True),
        (DEPUTY, "delete", "everyone", True),
        (DEPUTY, "see", "private", True),
        (MEMBER, "see", "group", True),
        (MEMBER, "use", "group", True),
        (MEMBER, "change", "group", False),
        (MEMBER, "cancel", "group", False),
        (MEMBER, "delete", "group", False),
        (MEMBER, "see", "private", False),
        (BOB, "see", "group", False),
        (BOB, "use", "group", False),
        (ALICE, "use", "group", True),
        (ALICE, "change", "everyone", False),
        (ALICE, "change", "private", True),
        (ALICE, "change", "group", True),
        (ALICE, "delete", "group", True),
        (BOB, "change", "everyone", False),
        (ROOT, "change", "private", True),
        (ROOT, "use", "group", True),
    ],
)
def test_who_may_what(person: Person, action: Action, visibility: Visibility, answer: bool) -> None:
    groups = ("physics",) if visibility == "group" else ()
    assert may(person, action, Thing(visibility=visibility, groups=groups)) is answer


def test_what_an_administrator_has_decided_its_owner_only_uses() -> None:
    thing = Thing(visibility="private", decided=True)
    assert [may(ALICE, each, thing) for each in ("see", "use", "change", "delete")] == [
        True,
        True,
        False,
        False,
    ]
    assert all(may(ROOT, each, thing) for each in ("see", "use", "change", "delete"))


def test_groups_that_are_left_over_open_nothing() -> None:
    assert not may(MEMBER, "use", Thing(visibility="private", groups=("physics",)))


@pytest.mark.parametrize(
    ("person", "people", "groups", "answer"),
    [
        (BOB, (), (), True),
        (BOB, ("alice",), (), False),
        (ALICE, ("alice",), (), True),
        (MEMBER, (), ("physics",), True),
        (MEMBER, ("alice",), ("chemistry",), False),
        (MEMBER, ("alice",), ("chemistry", "staff"), True),
        (BOB, (), ("bob",), False),  # a group of a person's name is not the person
        (Person(name="physics"), (), ("physics",), False),
        (ROOT, ("alice",), ("physics",), False),
        (DEPUTY, ("alice",), (), False),
    ],
)
def test_for_whom_something_is_meant(
    person: Person, people: tuple[str, ...], groups: tuple[str, ...], answer: bool
) -> None:
    assert is_meant_for(person, people, groups) is answer


def test_who_may_build_where_only_builders_may() -> None:
    builder = Person(name="dora", scopes=(BUILD_SCOPE,))
    assert [may_build(each, "role") for each in (BOB, builder, ROOT, DEPUTY)] == [False, True, True, True]
    assert may_build(BOB, "everyone")


def test_people_share_with_their_own_groups_and_administrators_with_all() -> None:
    assert may_share_with(MEMBER, ["physics"])
    assert not may_share_with(MEMBER, ["physics", "chemistry"])
    assert may_share_with(ROOT, ["chemistry"])
