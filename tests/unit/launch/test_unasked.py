"""What people are told of a server that ended although nobody stopped it."""

from __future__ import annotations

import pytest

from tljh_plugin.launch.spawner import _ending
from tljh_plugin.launch.unasked import why


def test_only_of_what_ran_an_end_is_told() -> None:
    assert why("exit code 1", "start") == "", "a start says itself how it went"
    assert why("exit code 1", "running").endswith("had not stopped it: exit code 1.")
    assert "while the hub was not running" in why("exit code 255", "nothing")
    assert "Docker was stopped" in why("exit code 0", "no-docker")


@pytest.mark.parametrize(("code", "told"), [(137, "more memory"), (0, "exit code 0")])
def test_a_program_that_was_too_large_is_not_taken_for_the_server(code: int, told: str) -> None:
    """Docker remembers it of any program of a container."""
    assert told in _ending({"State": {"OOMKilled": True, "ExitCode": code}})


def test_where_docker_does_not_say_so_memory_is_named_as_one_reason() -> None:
    assert "for its memory" in _ending({"State": {"OOMKilled": False, "ExitCode": 137}})
    assert _ending({"State": {"ExitCode": 3}}) == "exit code 3"
