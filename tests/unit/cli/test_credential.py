"""Credentials at the command line: from the environment or typed, never an argument."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tljh_plugin.cli import group
from tljh_plugin.cli._credential import TOKEN, USERNAME, asks, credential

SECRET = "glpat-0123456789abcdefghij"


@click.command()
@asks
def show(private: bool) -> None:
    found = credential(private)
    click.echo(f"got {found.plain()} {found!r}" if found else "got none")


def test_without_being_asked_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert CliRunner().invoke(show).output == "got none\n"


def test_the_environment_gives_it() -> None:
    done = CliRunner().invoke(show, env={TOKEN: SECRET, USERNAME: "ann"})
    assert f"{{'username': 'ann', 'password': '{SECRET}'}}" in done.output
    assert done.output.count(SECRET) == 1  # not when it is shown


def test_what_is_typed_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    done = CliRunner().invoke(show, ["--private"], input=f"\n{SECRET}\n")
    assert f"{{'username': '', 'password': '{SECRET}'}}" in done.output
    assert done.output.count(SECRET) == 1


@pytest.mark.parametrize("name", ["build", "open"])
def test_no_command_takes_it_as_an_argument(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--private" in options
    assert not options & {"--token", "--password", "--credential", "--username"}
