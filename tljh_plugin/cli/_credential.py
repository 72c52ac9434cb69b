"""What a private repository is read with: from the environment or asked for, never an argument, which others
on the machine could read."""

from __future__ import annotations

import os

import click
from pydantic import SecretStr

from ..wire import Credential

USERNAME, TOKEN = "LITTLEST_BINDER_USERNAME", "LITTLEST_BINDER_TOKEN"

asks = click.option(
    "--private",
    is_flag=True,
    help=f"Ask for user name and access token of a private repository. Or set {TOKEN}, and {USERNAME} if its "
    "host wants a certain one.",
)


def credential(ask: bool) -> Credential | None:
    """What the environment has, else what is typed where `ask` says so."""
    token = os.environ.get(TOKEN, "")
    if token:
        return Credential(username=os.environ.get(USERNAME, ""), password=SecretStr(token))
    if not ask:
        return None
    username = click.prompt("User name (none with a token)", default="", show_default=False, err=True)
    password = click.prompt("Password or access token", hide_input=True, err=True)
    return Credential(username=username, password=SecretStr(password))
