"""Which profile a person gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import ProfileRefused
from tljh_plugin.launch.profiles import choose, default_for, meant_for, profiles_of
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.wire import Person

ADA = Person(name="ada", groups=("gpu",))
BOB = Person(name="bob")
ROOT = Person(name="root", admin=True)

SMALL: dict[str, Any] = {"id": "small", "memory_bytes": "1G", "cpus": 1}
BIG: dict[str, Any] = {"id": "big", "title": "Big", "memory_bytes": "8G", "cpus": 4, "groups": ["gpu"]}
LONG: dict[str, Any] = {"id": "long", "lifetime_s": 604800}


def settings(*profiles: dict[str, Any], **servers: Any) -> Settings:
    section = {"profiles": list(profiles), "servers": servers}
    return from_mapping(section, platform="tljh", state_dir=Path("/state"))


def test_without_a_list_there_is_one_made_of_the_servers_settings() -> None:
    [only] = profiles_of(settings(memory_bytes="3G", cpus=0.5, pids=300, shm_bytes="1M", idle_s=60))
    assert (only.memory_bytes, only.cpus, only.pids, only.shm_bytes) == (3 * 1024**3, 0.5, 300, 1024**2)
    assert (only.lifetime_s, only.idle_s) == (0, 60)
    assert only.summary == "3 GiB memory, 0.5 processors, ends when idle for 1 min"


def test_what_a_profile_does_not_say_is_as_for_all_servers() -> None:
    [made] = profiles_of(settings({"id": "x", "cpus": 3, "lifetime_s": 0}, memory_bytes="3G", lifetime_s=60))
    assert (made.memory_bytes, made.cpus, made.lifetime_s, made.title) == (3 * 1024**3, 3, 0, "x")


def test_people_see_those_that_are_meant_for_them() -> None:
    given = settings(SMALL, BIG, LONG, {"id": "bobs", "people": ["bob"]})
    assert [each.id for each in meant_for(given, ADA)] == ["small", "big", "long"]
    assert [each.id for each in meant_for(given, BOB)] == ["small", "long", "bobs"]
    assert [each.id for each in meant_for(given, ROOT)] == ["small", "long"], (
        "administrators are no exception"
    )


@pytest.mark.parametrize(
    ("profiles", "servers", "adas", "bobs"),
    [
        ([SMALL, BIG, LONG], {}, "small", "small"),
        ([BIG, SMALL], {}, "big", "small"),
        ([SMALL, BIG, LONG], {"profile": "long"}, "long", "long"),
        ([SMALL, BIG], {"profile": "big"}, "big", "small"),
        ([SMALL, {**BIG, "default": True}], {"profile": "small"}, "big", "small"),
        ([SMALL, {**LONG, "default": True}, {**BIG, "default": True}], {}, "long", "long"),
    ],
)
def test_who_chose_none_gets_the_default(
    profiles: list[dict[str, Any]], servers: dict[str, Any], adas: str, bobs: str
) -> None:
    given = settings(*profiles, **servers)
    assert (default_for(given, ADA).id, default_for(given, BOB).id) == (adas, bobs)
    assert choose(given, ADA, "").id == adas


def test_a_profile_for_others_is_refused_with_the_own_ones() -> None:
    given = settings(SMALL, BIG)
    assert choose(given, ADA, "big").id == "big"
    with pytest.raises(ProfileRefused) as caught:
        choose(given, BOB, "big")
    assert caught.value.message == "The profile `big` is not meant for you."
    assert "`small`" in caught.value.next_step


def test_a_profile_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(ProfileRefused, match="There is no profile `tiny`"):
        choose(settings(SMALL), ADA, "tiny")
    with pytest.raises(ProfileRefused, match="`default`"):
        choose(settings(), ADA, "tiny")


def test_a_person_for_whom_none_is_meant_is_told_so() -> None:
    with pytest.raises(ProfileRefused, match="No profile is meant for bob"):
        choose(settings(BIG), BOB, "")
