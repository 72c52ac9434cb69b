"""The command `littlest-binder`: one file a command, each loaded when it is asked for.

Comes in: what was typed. Goes out: human text, or JSON with `--json`, and an exit code: 0 done, 1 it failed,
2 wrong usage or settings, 3 something that is needed does not run (hub, service, Docker), 130 interrupted.
Commands translate and call; what they say when something fails comes from the error itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any

import click

from .. import __version__, request_ids
from ..errors import (
    BinderError,
    EngineUnavailable,
    HubUnavailable,
    NoUserManager,
    ServiceDown,
    SettingsError,
)

FAILED, USAGE, NOT_RUNNING, INTERRUPTED = 1, 2, 3, 130


class Commands(click.Group):
    """Finds commands by their files: `cli/NAME.py` has a click command called `command`.

    A dash in a command's name is an underscore in its file's.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        found = (each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))
        return sorted(name.replace("_", "-") for name in found)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="littlest-binder")
def group() -> None:
    """One machine as an authenticated, persistent Binder."""


def exit_code(error: BinderError) -> int:
    """The exit code that tells a script what kind of error it was."""
    if isinstance(error, SettingsError):
        return USAGE
    if isinstance(error, (ServiceDown, HubUnavailable, EngineUnavailable, NoUserManager)):
        return NOT_RUNNING
    return FAILED


def explain(error: BinderError) -> str:
    """An error as a terminal shows it: what happened · what to do."""
    return " · ".join(part for part in (error.message, error.next_step) if part)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; never shows a traceback for an error that a person is meant to read.

    What the service is asked for carries one id, which an error from there ends with.
    """
    request_ids.begin()
    try:
        code = group.main(args=arguments, prog_name="littlest-binder", standalone_mode=False)
    except click.exceptions.Abort:
        code = INTERRUPTED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BinderError as error:
        click.echo(explain(error), err=True)
        if error.request_id:
            click.echo(f"id for the administrator: {error.request_id}", err=True)
        code = exit_code(error)
    sys.exit(code if isinstance(code, int) else 0)
