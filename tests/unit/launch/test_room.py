"""Whether there is room for one more server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import EngineError, LimitReached, MachineFull
from tljh_plugin.launch.room import (
    Allowance,
    Machine,
    allowance_for,
    capacity,
    fitted,
    offer,
    read_machine,
    refuse_if_too_much,
    sentences,
)
from tljh_plugin.launch.running import Running
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.wire import Person

GIB = 1024**3
ADA = Person(name="ada", groups=("lab", "gpu"))
BOB = Person(name="bob")
MACHINE = Machine(16 * GIB, 10 * GIB, 4, 1.25)


def settings(profiles: list[dict[str, Any]] | None = None, **limits: Any) -> Settings:
    section = {"limits": {"memory_reserve_bytes": 0, **limits}, "profiles": profiles or []}
    return from_mapping(section, platform="tljh", state_dir=Path("/state"))


def server(name: str = "new", gib: float = 2, cpus: float = 2, person: str = "ada") -> Running:
    return Running(person, name, int(gib * GIB), cpus)


def judge(wanted: Running, others: list[Running], given: Settings, machine: Machine = MACHINE) -> None:
    refuse_if_too_much(wanted, others, ADA, given, machine)


def test_without_limits_a_person_may_have_any_number() -> None:
    judge(server(), [server(str(n)) for n in range(10)], settings(memory_overcommit=0))


def test_as_many_servers_as_allowed() -> None:
    given = settings(servers=2)
    judge(server(), [server("one"), server("other", person="bob")], given)
    with pytest.raises(LimitReached) as caught:
        judge(server(), [server("one"), server("two", 4)], given)
    assert "2 servers running at the same time, and you have 2 servers (one 2 GiB, two 4 GiB)" in str(
        caught.value
    )
    assert "Stop one of them" in caught.value.next_step


@pytest.mark.parametrize("limit", [{"memory_bytes": "4G"}, {"cpus": 4}])
def test_as_much_in_all_servers_as_allowed(limit: dict[str, Any]) -> None:
    judge(server(), [server("one"), server("other", person="bob")], settings(**limit))
    with pytest.raises(LimitReached, match=r"1 server \(one 3 GiB\)") as caught:
        judge(server(), [server("one", 3, 3)], settings(**limit))
    assert "Stop one" in caught.value.next_step
    with pytest.raises(LimitReached) as caught:
        judge(server("new", 5, 5), [], settings(**limit))
    assert caught.value.next_step == "Choose a smaller profile."


def test_fractions_of_processors_add_up_exactly() -> None:
    judge(server(cpus=0.1), [server("a", cpus=0.1), server("b", cpus=0.1)], settings(cpus=0.3))


@pytest.mark.parametrize(
    ("groups", "person", "may"),
    [
        ({}, ADA, Allowance(2, GIB, 1)),
        ({"lab": {"servers": 5}}, ADA, Allowance(5, GIB, 1)),
        ({"lab": {"servers": 1}}, ADA, Allowance(1, GIB, 1)),
        ({"lab": {"servers": 5, "cpus": 3}, "gpu": {"servers": 3, "cpus": 8}}, ADA, Allowance(5, GIB, 8)),
        ({"lab": {"memory_bytes": 0}, "gpu": {"memory_bytes": "9G"}}, ADA, Allowance(2, 0, 1)),
        ({"lab": {"servers": 5}}, BOB, Allowance(2, GIB, 1)),
    ],
)
def test_a_group_may_have_other_limits(groups: dict[str, Any], person: Person, may: Allowance) -> None:
    given = settings(servers=2, memory_bytes="1G", cpus=1, groups=groups)
    assert allowance_for(given.limits, person) == may


def test_memory_limits_add_up_to_what_the_machine_can_give() -> None:
    given = settings(memory_overcommit=1)
    others = [server(str(n), person="bob") for n in range(7)]
    judge(server(), others, given)
    with pytest.raises(MachineFull) as caught:
        judge(server(), [*others, server("mine")], given)
    assert "8 servers running on this machine may use 16 GiB, and 16 GiB is what all may have" in str(
        caught.value
    )
    assert "1 server (mine 2 GiB)" in caught.value.next_step
    judge(server(), [*others, server("mine")], settings(memory_overcommit=2))
    judge(server(), [*others, server("mine")], settings(memory_overcommit=0))


def test_a_reserve_is_kept_free() -> None:
    given = settings(memory_reserve_bytes="1G")
    judge(server(), [], given)
    with pytest.raises(MachineFull, match="Only 512 MiB of this machine's 16 GiB memory are available"):
        judge(server(), [], given, Machine(16 * GIB, GIB // 2, 4, 0.0))


def test_no_server_gets_more_than_the_machine_has() -> None:
    small = Machine(2 * GIB, 2 * GIB, 1, 0.0)
    limits = settings(memory_reserve_bytes="512M").limits
    assert fitted(2 * GIB, limits, small) == 3 * GIB // 2
    assert fitted(GIB, limits, small) == GIB
    assert capacity(limits, small) == 6 * GIB
    assert fitted(2 * GIB, settings(memory_reserve_bytes="9G").limits, small) == GIB, "half is for servers"


def test_the_form_says_what_does_not_fit_and_why() -> None:
    profiles = [{"id": "s", "memory_bytes": "1G"}, {"id": "m", "memory_bytes": "3G"}, {"id": "l"}]
    profiles[2]["memory_bytes"] = "64G"
    given = settings(profiles, memory_bytes="4G")
    offered = offer(given, ADA, [server("one", 2), server("b", 2, person="bob")], MACHINE)
    small, middle, large = offered.profiles
    assert (small.problem, small.possible, small.default) == ("", True, True)
    assert "1 server (one 2 GiB)" in middle.problem
    assert middle.possible, "it fits when the other server is stopped"
    assert not large.possible
    assert large.memory_bytes == 16 * GIB
    assert offered.room is not None
    assert sentences(offered) == [
        "10 of 16 GiB memory are free, 1.2 of 4 processors busy. 2 servers are running (up to 4 GiB).",
        "You have 2 GiB of 4 GiB memory.",
    ]


@pytest.mark.parametrize(
    ("running", "said"),
    [
        (0, "10 of 16 GiB memory are free, 1.2 of 4 processors busy."),
        (1, "1 server is running (up to 2 GiB)."),
        (14, "All servers together may use up to 32 GiB: 4 GiB are left for new ones."),
        (16, "All servers together may use up to 32 GiB: nothing is left for new ones."),
    ],
)
def test_the_limit_of_all_servers_is_said_when_little_is_left(running: int, said: str) -> None:
    given = settings(
        [{"id": "s", "memory_bytes": "1G"}, {"id": "l", "memory_bytes": "5G"}], memory_overcommit=2
    )
    others = [server(str(n), person="bob") for n in range(running)]
    shown = sentences(offer(given, BOB, others, MACHINE))
    assert shown[-1].endswith(said)
    assert len(shown) == (2 if running > 10 else 1)
    endless = settings(memory_overcommit=0)
    assert len(sentences(offer(endless, BOB, others, MACHINE))) == 1


def test_units_are_said_where_they_differ_and_nothing_where_nothing_was_read() -> None:
    [said] = sentences(offer(settings(), BOB, [], Machine(2 * GIB, GIB // 2, 1, 3.0)))
    assert said == "512 MiB of 2 GiB memory are free, 1 of 1 processor busy."
    assert sentences(None) == sentences(offer(settings(), BOB, None, None)) == []


def test_nothing_is_said_about_what_was_not_read() -> None:
    offered = offer(settings(memory_bytes="1G"), ADA, None, None)
    assert offered.room is None
    assert [(each.problem, each.possible) for each in offered.profiles] == [("", True)]


def test_the_machine_is_read_from_its_kernel(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(
        "MemTotal:  2048 kB\nMemFree: 5 kB\nMemAvailable:    1024 kB\nHuge: 0\n"
    )
    (tmp_path / "loadavg").write_text("0.50 0.40 0.30 1/234 567\n")
    found = read_machine(tmp_path)
    assert (found.memory_bytes, found.available_bytes, found.load) == (2 * 1024**2, 1024**2, 0.5)
    (tmp_path / "loadavg").unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        read_machine(tmp_path)
    assert read_machine().available_bytes < read_machine().memory_bytes
