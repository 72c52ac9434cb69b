"""Write the reference pages that follow from the code: `python docs/generate.py`.

`tests/unit/test_docs.py` fails when a page is not what this writes.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import click
from described import constants_of, docstring_of, shown
from requests_page import requests_page

from tljh_plugin import errors, labels
from tljh_plugin.amounts import written_bytes
from tljh_plugin.build.explain import MEANINGS
from tljh_plugin.cli import group
from tljh_plugin.launch.hub_metrics import hub_metrics
from tljh_plugin.metrics import Declarations
from tljh_plugin.operation.doctor import GROUPS, all_checks
from tljh_plugin.service.metrics import ServiceMetrics
from tljh_plugin.settings import Settings, entry_of
from tljh_plugin.wire import DoctorView, FindingView, RepairView

DOCS = Path(__file__).parent
REFERENCE = DOCS / "reference"
# Codes that one place gives to an error of a class with another code, and what they mean there.
FINER = {
    "method-not-allowed": (405, "The address exists, and does not take this method."),
    "plan-changed": (400, "What a deletion would take has changed since the plan was shown."),
    "port-taken": (500, "Another program listens on the port of the desktop's pages."),
    "unknown-setting": (500, "The settings' file has a key that does not exist."),
}


def section_lines(place: str, model: Any) -> list[str]:
    """The table of one section; a mapping of sections follows with a table of its own."""
    lines = [inspect.getdoc(model) or "", "", "| key | default | meaning |", "| --- | --- | --- |"]
    below: list[str] = []
    for key, field in model.model_fields.items():
        default = "(required)" if field.is_required() else shown(field.default)
        if key.endswith("_bytes") and isinstance(field.default, int):
            default = f"`{written_bytes(field.default)}`"
        lines.append(f"| `{place}.{key}` | {default} | {field.description} |")
        if get_origin(field.annotation) is dict:
            below += ["", *section_lines(f"{place}.{key}.NAME", entry_of(field.annotation))]
        elif get_origin(field.annotation) is tuple and hasattr(entry_of(field.annotation), "model_fields"):
            below += ["", *section_lines(f"{place}.{key}[]", entry_of(field.annotation))]
    return lines + below


def settings_page() -> str:
    """`reference/settings.md`: every key with its default and meaning."""
    lines = [
        "# Settings",
        "",
        "All settings are keys of the section `binder`: in TLJH's `config.yaml`, or on a desktop in",
        "`config.yaml` in the state folder (`~/.local/share/littlest-binder/config.yaml`). Unknown keys are",
        "errors. A number of bytes can have a unit: `512MiB`, `2GiB`.",
        "",
        "`littlest-binder config explain KEY` says the same with an example, and",
        "[Configure](../how-to/configure.md) how to set, check and show them.",
        "",
    ]
    for name, section in Settings.model_fields.items():
        if section.exclude:
            continue
        listed = get_origin(section.annotation) is tuple
        model = entry_of(section.annotation) if listed else section.annotation
        lines += [f"## `{name}`", "", *section_lines(f"binder.{name}{'[]' if listed else ''}", model)]
        lines.append("")
    return "\n".join(lines)


@functools.cache
def sections_of_troubleshooting() -> dict[str, str]:
    """By code the anchor of the first section that says what to do about it."""
    found: dict[str, str] = {}
    anchor = ""
    for line in (DOCS / "how-to" / "troubleshoot.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            anchor = re.sub(r"[^a-z0-9 -]", "", line[3:].lower()).replace(" ", "-")
        for code in re.findall(r"`([a-z-]+)`", line) if anchor else ():
            found.setdefault(code, anchor)
    return found


def what_to_do(code: str) -> str:
    """The link from a code to what to do about it; empty where troubleshooting does not have it."""
    anchor = sections_of_troubleshooting().get(code)
    return f"[what to do](../how-to/troubleshoot.md#{anchor})" if anchor else ""


def errors_page() -> str:
    """`reference/errors.md`: every stable code with its HTTP status and meaning."""
    lines = [
        "# Error codes",
        "",
        "Every error carries a stable code, a message that shows the value in question, and a next step. In",
        'the API it is `{"code", "message", "next"}` with the HTTP status below; on a page or in a terminal',
        "it is a sentence and what to do. [Troubleshooting](../how-to/troubleshoot.md)",
        "goes by what you see.",
        "",
        "| code | HTTP | what it means | |",
        "| --- | --- | --- | --- |",
    ]
    known = {
        code: (kind.http_status, (kind.__doc__ or "").strip().split("\n")[0])
        for code, kind in errors._by_code().items()
    }
    for code, (status, meaning) in sorted((known | FINER).items()):
        lines.append(f"| `{code}` | {status} | {meaning} | {what_to_do(code)} |")
    lines += [
        "",
        "## Why a build failed",
        "",
        "A failed build is explained from its log where the cause is known. The message then names the",
        "package, file or step, and the next step what to change.",
        "",
        "| code | what it means | |",
        "| --- | --- | --- |",
        *(f"| `{code}` | {meaning} | {what_to_do(code)} |" for code, meaning in sorted(MEANINGS.items())),
    ]
    return "\n".join([*lines, ""])


def all_commands(among: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, those within commands after them."""
    for name in among.list_commands(context):
        command = among.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in all_commands(command, context))


def commands_page() -> str:
    """`reference/commands.md`: every command with its options."""
    lines = [
        "# Commands",
        "",
        "`littlest-binder COMMAND --help` says the same. On a server put `sudo` before it; who asks is then",
        "`root`, whose builds and projects these are. Exit codes: 0 done, 1 it failed, 2 wrong usage or",
        "settings, 3 something needed does not run (hub, service, Docker), 130 interrupted. Results go to",
        "stdout, progress and logs to stderr.",
        "",
    ]
    context = click.Context(group, info_name="littlest-binder")
    for name, command in all_commands(group, context):
        lines += [f"## `littlest-binder {name}`", ""]
        words = [each.make_metavar(context) for each in command.params if isinstance(each, click.Argument)]
        lines += [f"`littlest-binder {' '.join([name, '[OPTIONS]', *words])}`", ""]
        lines += [inspect.cleandoc(command.help or ""), ""]
        options = [each for each in command.params if isinstance(each, click.Option)]
        if options:
            lines += ["| option | meaning |", "| --- | --- |"]
            lines += [f"| {', '.join(f'`{flag}`' for flag in each.opts)} | {each.help} |" for each in options]
            lines.append("")
    return "\n".join(lines)


def metric_lines(declared: Declarations) -> list[str]:
    """The table of one process' metrics."""
    lines = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for each in declared:
        labels = "; ".join(f"`{name}`: {_values(name, values)}" for name, values in each.labels)
        lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return lines


def _values(name: str, values: tuple[str, ...]) -> str:
    return "the version" if name == "version" else ", ".join(values)


def metrics_page() -> str:
    """`reference/metrics.md`: every metric with its labels and all their values."""
    lines = [
        "# Metrics",
        "",
        "For Prometheus; [Monitor](../how-to/monitor.md) says how to collect them and what to ring for.",
        "A histogram `X` has the series `X_bucket`, `X_sum` (seconds) and `X_count`. Each series is there",
        "from the start, with 0. Labels have the values below and no others (but `other`): names of people,",
        "repositories, images and servers are in none.",
        "",
        "## Of the service",
        "",
        "`/services/binder/api/v1/metrics`, for administrators and for tokens with the scope",
        "`custom:binder:metrics`.",
        "",
        *metric_lines(ServiceMetrics().declared),
        "",
        "## Of the hub",
        "",
        "Among JupyterHub's own at `/hub/metrics`, for tokens with JupyterHub's scope `read:metrics`.",
        "",
        *metric_lines(hub_metrics().declared),
        "",
    ]
    return "\n".join(lines)


def doctor_page() -> str:
    """`reference/doctor.md`: every check with what it looks at and what `--fix` does."""
    lines = [
        "# The doctor's checks",
        "",
        "`littlest-binder doctor` makes all of them at the same time, in at most five seconds, whether hub, "
        "service",
        "and Docker run or not. `littlest-binder doctor CHECK…` makes those that are named, by their id or "
        "by their",
        "group (`left-over`), gives each up to a minute, and shows what was seen where all is well: "
        "`littlest-binder",
        "doctor firewall` lists our firewall rules. The page *Doctor* of administrators and",
        "`GET api/v1/doctor` say the same, as the service sees it. On a server the command needs root.",
        "",
        "Each finding has a status:",
        "",
        "| status | meaning |",
        "| --- | --- |",
        *(f"| `{status}` | {meaning} |" for status, meaning in STATUSES.items()),
        "",
        "The exit code is 0 without a problem (also with warnings), 1 with one, 2 if there is no such check "
        "or if",
        "root is needed. `--fix` puts right what the last column says, looks again, and says what it did; "
        "what it",
        "does can be done twice, loses nothing, and concerns nothing that is not of this installation.",
        "",
    ]
    for name in GROUPS:
        lines += [f"## {name}", "", "| check | looks at | `--fix` |", "| --- | --- | --- |"]
        lines += [
            f"| `{each.id}`: {each.title} | {each.about} | {each.repairs} |"
            for each in all_checks()
            if each.group == name
        ]
        lines.append("")
    lines += ["## `--json`", "", "One object, `GET api/v1/doctor` answers the same:", ""]
    for model in (DoctorView, FindingView, RepairView):
        lines += [f"`{model.__name__.removesuffix('View').lower()}`: {docstring_of(model)}", ""]
        lines += ["| key | type |", "| --- | --- |"]
        lines += [
            f"| `{key}` | {FIELDS.get((model, key), 'text')} |"
            for key in model.model_fields
            if key != "version"
        ]
        lines.append("")
    return "\n".join(lines)


STATUSES = {
    "problem": "something that people need does not work, or is open to those who must not have it",
    "warning": "it works, and will not always, or not for everybody",
    "not-checked": "it could not be looked at, and why",
    "note": "something that one should know and that is not wrong",
    "ok": "all is well",
}
FIELDS = {
    (DoctorView, "checked"): "when, UTC, ISO 8601",
    (DoctorView, "seconds"): "number: how long it took",
    (DoctorView, "product"): "text: the version of The Littlest Binder",
    (DoctorView, "platform"): "`desktop`, `tljh` or `jupyterhub`",
    (DoctorView, "state_dir"): "text: the state folder",
    (DoctorView, "counts"): "object: how many findings have each status",
    (DoctorView, "findings"): "list of `finding`, the worst first",
    (DoctorView, "repairs"): "list of `repair`: what `--fix` did",
    (FindingView, "about"): "text: the thing (a disk, a mount, a file), where a check looks at several",
    (FindingView, "status"): "see above",
    (FindingView, "seen"): "object: what was read, names and values as texts",
    (FindingView, "fix"): "text: what to do, a command or a sentence",
    (FindingView, "repair"): "text: what `--fix` does about it; empty: nothing",
}


def labels_page() -> str:
    """`reference/labels.md`: every label with what carries it."""
    on_images, on_others = [], []
    for name, said in constants_of(labels.__name__).items():
        on, _, value = said.partition(": ")
        if on == "images":
            on_images.append(f"| `{getattr(labels, name)}` | {value} |")
        else:
            on_others.append(f"| `{getattr(labels, name)}` | {on} | {value} |")
    lines = [
        "# Labels",
        "",
        f"Names of labels begin with `{labels.LABEL_PREFIX}`.",
        "",
        "## On containers, networks and volumes",
        "",
        "Only what carries the first one, with the id of this installation, is ever changed or removed.",
        "",
        "| label | on | value |",
        "| --- | --- | --- |",
        *on_others,
        "",
        "## On images",
        "",
        "Any Dockerfile can write labels, so these prove nothing by themselves: a signature by the",
        "installation's secret stands for all of them, and an image with labels of ours that we did not pass",
        "is refused.",
        "",
        "| label | value |",
        "| --- | --- |",
        *on_images,
        "",
    ]
    return "\n".join(lines)


PAGES = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "commands.md": commands_page,
    "metrics.md": metrics_page,
    "doctor.md": doctor_page,
    "labels.md": labels_page,
    "requests.md": requests_page,
}

if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for page, write in PAGES.items():
        (REFERENCE / page).write_text(write(), encoding="utf-8")
