"""`littlest-binder config`: check the settings before a reload does, show them, explain each key."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..operation.configuration.check import check as check_file
from ..operation.configuration.file import Platform, SettingsFile, find
from ..operation.configuration.finding import Finding, Level
from ..operation.configuration.keys import Key, look_up
from ..operation.configuration.shown import Value, in_force
from ._service import as_json, console, print_json, table

platform_option = click.option(
    "--platform",
    type=click.Choice(["desktop", "tljh", "jupyterhub"]),
    help="Whose file it is. Default: as found on this machine, or by what is in the file.",
)
_BEFORE: dict[Level, str] = {"mistake": "MISTAKE", "warning": "warning", "note": "note"}


@click.group(name="config", short_help="Check, show and explain the settings.")
def command() -> None:
    """Check the settings before a hub works with them, show which hold, and explain each.

    Works without hub, service and Docker. On a server put `sudo` before it: TLJH's file is root's. To set
    something, edit the file or use TLJH's own `tljh-config set binder.KEY VALUE`, then `tljh-config reload`.
    """


@command.command(name="check", short_help="Find mistakes before a reload does.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@platform_option
@click.option("--strict", is_flag=True, help="Warnings count as well: exit code 1.")
@as_json
@click.pass_context
def check(
    context: click.Context, file: Path | None, platform: Platform | None, strict: bool, as_json: bool
) -> None:
    """Find what is wrong in FILE, by default in the file of this machine's installation.

    Unknown keys, values of the wrong type, values that do not go together, folders and accounts that are not
    there, what `tljh-config` makes of a value, and what TLJH's own settings say otherwise.

    Exit codes: 0 nothing is wrong, though there may be warnings and notes; 1 warnings, with `--strict`; 2 a
    mistake, or the file cannot be read.
    """
    found = find(file, platform)
    findings = check_file(found)
    code = _code(findings, strict)
    if as_json:
        print_json(_document(found, findings))
    else:
        for each in findings:
            click.echo(f"{each.where}: {_BEFORE[each.level]}: {each.message}")
            if each.next:
                click.echo(f"    {each.next}")
        click.echo(_sum(found, findings))
    context.exit(code)


def _code(findings: list[Finding], strict: bool) -> int:
    levels = {each.level for each in findings}
    if "mistake" in levels:
        return 2
    return 1 if strict and "warning" in levels else 0


def _document(file: SettingsFile, findings: list[Finding]) -> dict[str, object]:
    return {
        "file": str(file.path),
        "platform": file.platform,
        "mistakes": sum(each.level == "mistake" for each in findings),
        "warnings": sum(each.level == "warning" for each in findings),
        "findings": [asdict(each) for each in findings],
    }


def _sum(file: SettingsFile, findings: list[Finding]) -> str:
    counts = []
    for level in ("mistake", "warning", "note"):
        count = sum(each.level == level for each in findings)
        if count:
            counts.append(f"{count} {level}{'s' if count > 1 else ''}")
    if not any(each.level == "mistake" for each in findings):
        counts.insert(0, "no mistake")
    return f"{file.path}: {', '.join(counts)}."


@command.command(name="show", short_help="Show the settings in force, and where each comes from.")
@click.argument("key", required=False)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="This file. Default: the one of this machine's installation.",
)
@platform_option
@click.option("--said", is_flag=True, help="Only what the file says.")
@as_json
def show(key: str | None, file: Path | None, platform: Platform | None, said: bool, as_json: bool) -> None:
    """Show every setting, or those of KEY, with its value and the file's line or the default it comes from.

    These are the values of the file; a hub that was not reloaded yet may still work with others.
    """
    values = in_force(find(file, platform))
    if key is not None:
        values = _below(values, key)
    if said:
        values = [each for each in values if each.source == "file"]
    if as_json:
        print_json([asdict(each) for each in values])
        return
    rows = table("KEY", "VALUE", "FROM")
    for each in values:
        rows.add_row(each.key, each.shown, each.where)
    console().print(rows)


def _below(values: list[Value], key: str) -> list[Value]:
    name = "binder." + key.removeprefix("binder").strip(".")
    found = [each for each in values if f"{each.key}.".startswith(f"{name.rstrip('.')}.")]
    if not found:
        look_up(key)  # names the near ones if there is no such key at all
    return found


@command.command(name="explain", short_help="Explain a setting, or list all.")
@click.argument("key", required=False)
@as_json
def explain(key: str | None, as_json: bool) -> None:
    """Explain KEY, such as `servers.idle_s`: type, allowed values, default, meaning, and how to set it.

    Of a section, such as `servers`, or without KEY, all settings in it are listed.
    """
    found = look_up(key or "")
    if as_json:
        print_json([_facts(each) for each in found])
    elif len(found) == 1:
        click.echo(_page(found[0]))
    else:
        rows = table("KEY", "DEFAULT", "MEANING")
        for each in found:
            rows.add_row(each.whole, each.default, each.field.description or "")
        console().print(rows)


def _facts(key: Key) -> dict[str, object]:
    return {
        "key": key.whole,
        "type": key.type,
        "allowed": key.allowed,
        "default": key.default,
        "description": key.field.description,
        "example": key.in_yaml(),
        "tljh_config": key.tljh_config(),
    }


def _page(key: Key) -> str:
    lines = [key.whole, f"  {key.field.description}", "", f"  type:     {key.type}"]
    if key.allowed:
        lines.append(f"  allowed:  {key.allowed}")
    lines += [f"  default:  {key.default}", "", "In the file:", ""]
    lines += [f"  {line}" for line in key.in_yaml().splitlines()]
    command = key.tljh_config()
    lines += ["", "On TLJH:", ""]
    if command:
        lines += [f"  {command}", "  sudo tljh-config reload"]
    elif key.not_on_tljh:
        lines.append(f"  not there: {key.not_on_tljh}")
    else:
        lines.append(
            "  only in /opt/tljh/config/config.yaml, since tljh-config cannot write it; then\n"
            "  sudo tljh-config reload"
        )
    return "\n".join(lines)
