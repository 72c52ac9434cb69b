from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from tljh_plugin.access import ADMIN_SCOPE, Action, is_meant_for, may
from tljh_plugin.wire import Person

ALICE, BOB = Person(name="alice"), Person(name="bob")
ROOT = Person(name="root", admin=True)
DEPUTY = Person(name="deputy", scopes=(ADMIN_SCOPE,))


@dataclass(frozen=True)
class Thing:
    owner: str = "alice"
    visibility: Literal["everyone", "private"] = "everyone"


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
    ],
)
def test_who_may_what(
    person: Person, action: Action, visibility: Literal["everyone", "private"], answer: bool
) -> None:
    assert may(person, action, Thing(visibility=visibility)) is answer


MEMBER = Person(name="carol", groups=("physics", "staff"))


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
