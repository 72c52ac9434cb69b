"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tljh_plugin import cli
from tljh_plugin.errors import (
    BinderError,
    BuildFailed,
    EngineUnavailable,
    HubUnavailable,
    RefNotFound,
    ServiceDown,
    SettingsError,
)


@pytest.mark.parametrize("name", cli.group.list_commands(click.Context(cli.group)))
def test_every_command_explains_itself(name: str) -> None:
    done = CliRunner().invoke(cli.group, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) > 3
    command = cli.group.get_command(click.Context(cli.group), name)
    assert command is not None
    assert command.get_short_help_str(), "it is listed with a sentence"


def test_a_command_loads_nothing_of_the_others() -> None:
    code = (
        "import sys\nfrom tljh_plugin import cli\n"
        "try:\n    cli.main(['serve', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in sys.modules if m.startswith('tljh_plugin.cli.') or m == 'jupyterhub'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['tljh_plugin.cli.serve']"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefNotFound("No such ref.", "Check it."), 1),
        (BuildFailed("It failed.", "Correct it.", code="build-unknown-package"), 1),
        (SettingsError("Bad.", "Correct it."), 2),
        (ServiceDown("Down.", "Start it."), 3),
        (HubUnavailable("Down.", "Start it."), 3),
        (EngineUnavailable("Down.", "Start it."), 3),
    ],
)
def test_an_error_is_one_line_with_the_next_step_and_an_exit_code(
    error: BinderError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli.Commands, "get_command", lambda self, ctx, name: failing)
    with pytest.raises(SystemExit) as ended:
        cli.main(["failing"])
    assert ended.value.code == code
    assert capsys.readouterr().err == f"{error.message} · {error.next_step}\n"


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["nonsense"])
    assert ended.value.code == 2
    assert "nonsense" in capsys.readouterr().err


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Commands, "get_command", lambda self, ctx, name: interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["interrupted"])
    assert ended.value.code == 130
