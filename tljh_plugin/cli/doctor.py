"""`littlest-binder doctor`: what is wrong, what that means, and what to do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from .. import __version__
from ..build.processes import process_facts
from ..errors import InvalidRequest
from ..operation.doctor import LIMIT_S, all_checks, examine, named, open_site, put_right
from ..operation.doctor.findings import ORDER
from ..wire import DoctorView, FindingStatus, FindingView
from ._service import as_json, console, print_json, runs_async

# Who names a check wants its answer, and some take longer than all of them may.
_NAMED_LIMIT_S = 60.0
# Seconds from the start of the process to the end of all checks; what comes after it takes some tenths.
_DOCKERS_PART = 0.7
_WHOLE_S, _LEAST_S = 3.8, 1.5

_LOOK: dict[FindingStatus, tuple[str, str]] = {
    "problem": ("✗", "bold red"),
    "warning": ("!", "yellow"),
    "not-checked": ("?", "magenta"),
    "note": ("i", "cyan"),
    "ok": ("✓", "green"),
}


@click.command(name="doctor", short_help="Find out what is wrong, and what to do.")
@click.argument("checks", nargs=-1, metavar="[CHECK]...")
@click.option("--fix", is_flag=True, help="Put right what is safe to put right, and look again.")
@click.option("--list", "as_list", is_flag=True, help="List the checks, without making any.")
@as_json
@runs_async
async def command(checks: tuple[str, ...], fix: bool, as_list: bool, as_json: bool) -> int:
    """Look at everything that this installation needs, and say what is wrong, what that means, and what to
    do.

    It takes at most five seconds, works whether hub, service and Docker run or not, and changes nothing
    without `--fix`. CHECK is the id of a check or of a group of checks; named ones get up to a minute. On a
    server it needs root. The exit code is 1 if there is a problem, else 0, also with warnings.
    """
    if as_list:
        _list()
        return 0
    try:
        wanted = named(checks)
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None
    limit_s = _NAMED_LIMIT_S if checks else _left_s()
    async with open_site(patience_s=limit_s * _DOCKERS_PART) as site:
        report = await (put_right if fix else examine)(site, wanted, limit_s=limit_s)
        view = report.view(
            product=__version__, platform=site.settings.platform, state_dir=str(site.settings.state_dir)
        )
    if as_json:
        print_json(view)
    else:
        _print(view, whole=bool(checks))
    return 1 if view.counts["problem"] else 0


def _left_s() -> float:
    """What is left of the time that all of it may take: loading the program is a part of that."""
    facts = process_facts(os.getpid())
    began = facts.start / os.sysconf("SC_CLK_TCK") if facts else 0.0
    spent = time.clock_gettime(time.CLOCK_BOOTTIME) - began if began else 0.0
    return min(LIMIT_S, max(_LEAST_S, _WHOLE_S - spent))


def _list() -> None:
    for each in all_checks():
        console().print(f"{each.id:<16} {each.group:<14} {each.title}", soft_wrap=True)


def _print(view: DoctorView, *, whole: bool) -> None:
    """Problems first, each with what it means and the fix; what is well in one line for each group, or as
    `whole`, with what was seen.
    """
    out = _console()
    for repair in view.repairs:
        mark, style = ("✓", "green") if repair.done else ("✗", "bold red")
        out.print(Text.assemble((f"{mark} ", style), repair.done or f"{repair.id}: {repair.error}"))
    if view.repairs:
        out.print()
    for status in ORDER:
        rows = [each for each in view.findings if each.status == status]
        if status == "not-checked":
            _print_unchecked(out, rows)
        elif status == "ok" and not whole:
            _print_well(out, rows)
        else:
            for finding in rows:
                _print_finding(out, finding, whole=whole)
    out.print(_sentence(view))


def _print_finding(out: Console, finding: FindingView, *, whole: bool) -> None:
    mark, style = _LOOK[finding.status]
    about = f": {finding.about}" if finding.about else ""
    out.print(
        Text.assemble((f"{mark} ", style), (f"{finding.title}{about}", "bold"), ("  " + finding.id, "dim"))
    )
    for text, how in ((finding.meaning, ""), (finding.fix, "green")):
        if text:
            arrow = "→ " if how else ""
            out.print(Padding(Text(f"{arrow}{text}", style=how), (0, 0, 0, 2), expand=False))
    if finding.repair:
        out.print(Padding(Text(f"`--fix` would {finding.repair}.", style="dim"), (0, 0, 0, 2), expand=False))
    if finding.seen and finding.status != "note":
        facts = {name: value for name, value in finding.seen.items() if value}
        seen = " · ".join(f"{name} {value}" for name, value in facts.items() if "\n" not in value)
        out.print(Padding(Text(seen, style="dim"), (0, 0, 0, 2), expand=False))
        for name, value in facts.items():
            if whole and "\n" in value:
                out.print(Text(f"  {name}", style="dim"))
                for line in value.splitlines():
                    out.print(Text(f"    {line}"), soft_wrap=True)
    out.print()


def _print_unchecked(out: Console, findings: Sequence[FindingView]) -> None:
    """By their reason, which many have in common."""
    mark, style = _LOOK["not-checked"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        reasons.setdefault((finding.meaning, finding.fix), []).append(finding.id)
    for (meaning, fix), ids in reasons.items():
        out.print(Text.assemble((f"{mark} ", style), ("Not checked", "bold"), f"  {', '.join(ids)}"))
        for text, how in ((meaning, ""), (f"→ {fix}" if fix and len(ids) == 1 else "", "green")):
            if text:
                out.print(Padding(Text(text, style=how), (0, 0, 0, 2), expand=False))
    if reasons:
        out.print()


def _print_well(out: Console, findings: Sequence[FindingView]) -> None:
    groups: dict[str, list[str]] = {}
    for finding in findings:
        known = groups.setdefault(finding.group, [])
        if finding.id not in known:
            known.append(finding.id)
    for group, ids in groups.items():
        out.print(Text.assemble(("✓ ", "green"), (group, "bold"), f"  {', '.join(ids)}"))
    if groups:
        out.print()


def _sentence(view: DoctorView) -> Text:
    counts = view.counts
    parts = [
        f"{n} {word if n == 1 else plural}"
        for n, word, plural in (
            (counts["problem"], "problem", "problems"),
            (counts["warning"], "warning", "warnings"),
            (counts["note"], "note", "notes"),
            (counts["not-checked"], "not checked", "not checked"),
            (counts["ok"], "well", "well"),
        )
        if n
    ]
    style = "bold red" if counts["problem"] else "yellow" if counts["warning"] else "green"
    return Text.assemble((", ".join(parts), style), f", in {view.seconds:.1f} s. {view.state_dir}")


def _console() -> Console:
    """In colours on a terminal. Texts of others are in it, so brackets mean nothing."""
    plain = console()
    return plain if not sys.stdout.isatty() else Console(highlight=False, markup=False, emoji=False)
