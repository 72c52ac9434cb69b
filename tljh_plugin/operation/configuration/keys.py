"""Every key of the `binder` section: its type, limits, default and help, an example, and how it is set."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ...amounts import written_bytes
from ...errors import SettingsError
from ...settings import Settings, entry_of

# Keys whose default follows from where we run, and the property of `Settings` that says it.
EFFECTIVE: Mapping[str, str] = {
    "policy.dockerfile": "dockerfile_policy",
    "retention.enabled": "retention_enabled",
    "network.firewall": "firewall",
    "servers.uid": "server_uid",
    "servers.gid": "server_gid",
    "storage.root": "storage_root",
}

# What a text looks like that is no name of a choice; of a list, one of its entries.
_EXAMPLES: Mapping[str, str | int | float] = {
    "policy.protocols": "https",
    "policy.allowed_hosts": "github.com",
    "policy.blocked_hosts": "*.example.org",
    "policy.private_hosts": "git.lab.example:3000",
    "policy.blocked_repositories": "https://github.com/owner/*",
    "policy.dockerfile_repositories": "https://github.com/our-lab/*",
    "policy.local_roots": "/srv/repositories",
    "policy.image_names": "quay.io/jupyter/*",
    "source.git_user": "nobody",
    "source.credentials_file": "/root/git-hosts.yaml",
    "build.mirror": "https://deb.debian.org/debian",
    "build.appendix": "ENV LAB=ours",
    "storage.root": "/srv/binder",
    "servers.account": "jupyter-{name}",
    "servers.profile": "large",
    "servers.groups": 100,
    "profiles[].id": "large",
    "profiles[].title": "Large",
    "profiles[].description": "For large data",
    "updates.nightly_at": "03:30",
    "network.gateway_port": 15080,
    "network.subnet": "10.89.0.0/24",
    "network.allowed": "10.0.0.7:5432",
    "network.denied": "203.0.113.0/24",
    "retention.keep[].repository": "https://github.com/our-lab/*",
    "retention.keep[].built_by": "ada",
    "mounts[].id": "lab",
    "mounts[].title": "Lab data",
    "mounts[].description": "What the instruments wrote",
    "mounts[].source": "/srv/lab",
    "mounts[].target": "/data/lab",
    "desktop.mount_roots": "/srv/data",
}
_NOT_ON_TLJH = {"servers.account": "TLJH says itself what accounts are called (`jupyter-NAME`)"}
_PEOPLE = {"people": "ada", "groups": "physics"}


@dataclass(frozen=True)
class Key:
    """A key without parts. `name` is as in the reference: `limits.groups.NAME.servers`, `mounts[].source`."""

    name: str
    field: FieldInfo

    @property
    def whole(self) -> str:
        """With the section before it."""
        return f"binder.{self.name}"

    @property
    def bare(self) -> Any:
        """The annotation without `| None`."""
        return bare(self.field.annotation)

    @property
    def is_list(self) -> bool:
        """Whether its value is a list of texts or numbers."""
        return get_origin(self.bare) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where they are few."""
        return get_args(self.bare) if get_origin(self.bare) is Literal else ()

    @property
    def type(self) -> str:
        """What it holds, for people."""
        return _type(self.name, self.bare)

    @property
    def allowed(self) -> str:
        """Choices, limits, patterns; empty if anything of its type goes."""
        if self.choices:
            return ", ".join(self.choices)
        return ", ".join(_bounds(self.field))

    @property
    def default(self) -> str:
        """The default as it stands in YAML; what follows from the platform is said by the help."""
        if self.field.is_required():
            return "(required)"
        return written(self.name, self.field.default) or "(none)"

    @property
    def example(self) -> Any:
        """A value that it may have; of a list, one entry."""
        return _example(self)

    def in_yaml(self, value: Any = None) -> str:
        """The lines that set it in a file."""
        shown = _yaml(self.example if value is None else value)
        lines, indent = ["binder:"], "  "
        *folders, last = self.name.split(".")
        for folder in folders:
            if folder.endswith("[]"):
                lines.append(f"{indent}{folder.removesuffix('[]')}:")
                indent += "  - "
            else:
                lines.append(f"{indent}{folder}:")
                indent = " " * len(indent) + "  "
        lines.append(f"{indent}{last}: {f'[{shown}]' if self.is_list else shown}")
        return "\n".join(lines)

    @property
    def not_on_tljh(self) -> str:
        """Why TLJH takes no such setting; empty: it does."""
        return _NOT_ON_TLJH.get(self.name, "")

    def tljh_config(self) -> str:
        """The command that sets it on TLJH; empty where only the file can: in lists of objects, and for texts
        of which `tljh-config` would make something else; and where nothing can, see `not_on_tljh`.
        """
        if (
            self.not_on_tljh
            or "[]" in self.name
            or (isinstance(self.example, str) and not survives(self.example))
        ):
            return ""
        verb = "add-item" if self.is_list else "set"
        shown = self.example if isinstance(self.example, str) else _yaml(self.example)
        return f"sudo tljh-config {verb} {self.whole} {_shell(shown)}"


def bare(annotation: Any) -> Any:
    """An annotation without `| None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def all_keys() -> Iterator[Key]:
    """All of them, in the order of the reference."""
    for name, field in Settings.model_fields.items():
        if not field.exclude:
            yield from _keys(name, field)


def _keys(name: str, field: FieldInfo) -> Iterator[Key]:
    kind = bare(field.annotation)
    if get_origin(kind) in (tuple, dict):
        inner = entry_of(kind)
        if hasattr(inner, "model_fields"):
            name += "[]" if get_origin(kind) is tuple else ".NAME"
            kind = inner
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for below, each in kind.model_fields.items():
            yield from _keys(f"{name}.{below}", each)
    else:
        yield Key(name, field)


def look_up(asked: str) -> list[Key]:
    """The key of that name, or those of that section; `mounts.source` and `mounts.0.source` are one.

    Raises `SettingsError` with near matches.
    """
    name = _general(asked.strip().removeprefix("binder").strip("."))
    known = {_general(each.name): each for each in all_keys()}
    if name in known:
        return [known[name]]
    below = [each for key, each in known.items() if not name or key.startswith(f"{name}.")]
    if below:
        return below
    raise SettingsError(
        f"There is no setting `{asked}`.",
        f"Did you mean {' or '.join(f'`binder.{each}`' for each in near(name))}? "
        "`littlest-binder config explain` lists all.",
        code="unknown-setting",
    )


def near(name: str) -> list[str]:
    """Names of keys that are like `name`: those that end as it does before those that look like it."""
    known = [each.name for each in all_keys()]
    last = name.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == last]
    alike = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    tails = {each.rpartition(".")[2]: each for each in known}
    ends = [tails[each] for each in difflib.get_close_matches(last, list(tails), n=2, cutoff=0.7)]
    inside = [each for each in known if last and last in each.rpartition(".")[2]]
    return list(dict.fromkeys([*same, *ends, *alike, *inside]))[:3] or known[:1]


def _general(name: str) -> str:
    """Names of entries of a list or mapping are alike: `mounts[0].source`, `limits.groups.physics.cpus`."""
    name = re.sub(r"\[\d*\]|\.\d+(?=\.|$)", "", name)
    return re.sub(r"^limits\.groups\.[^.]+(?=\.|$)", "limits.groups", name)


def _type(name: str, kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of the values below"
    if get_origin(kind) is tuple:
        return "list of " + ("numbers" if entry_of(kind) is int else "texts")
    if is_bytes(name):
        return "bytes, as a number or with a unit: 512MiB, 2GiB"
    unit = {"s": "seconds", "days": "days", "hours": "hours", "percent": "percent"}.get(
        name.rpartition("_")[2]
    )
    plain = {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(kind, "text")
    return f"{plain} ({unit})" if unit and kind in (int, float) else plain


def is_bytes(name: str) -> bool:
    """Whether a key holds a number of bytes."""
    return "_bytes" in f"_{name.rpartition('.')[2]}"


def _bounds(field: FieldInfo) -> Iterator[str]:
    for each in field.metadata:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            if getattr(each, name, None) is not None:
                yield f"{sign} {getattr(each, name):g}"
        if getattr(each, "max_length", None) is not None:
            yield f"at most {each.max_length} characters"
        if getattr(each, "pattern", None) is not None:
            yield f"matches {each.pattern}"


def written(name: str, value: Any) -> str:
    """A value as it stands in YAML; empty for none."""
    if value is None or value in ("", (), {}):
        return ""
    if is_bytes(name) and isinstance(value, int):
        return written_bytes(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_yaml(each) for each in value) + "]"
    return _yaml(value)


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z0-9/~_.][A-Za-z0-9/~_.:@+-]*(?: [A-Za-z0-9/=_.]+)*", text)
    if isinstance(value, str) and (not plain or not survives(text) or text.endswith(":")):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def survives(text: str) -> bool:
    """Whether `tljh-config set` leaves a text a text (tljh/config.py, `parse_value`)."""
    special = text.lower() in ("none", "true", "false")
    return not special and re.match(r"^\d+$|^\d+\.\d*$", text) is None


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9/~_.:@+=-]+", text) else "'" + text.replace("'", "'\\''") + "'"


def _example(key: Key) -> Any:
    known = _EXAMPLES.get(key.name) or _PEOPLE.get(key.name.rpartition(".")[2])
    if known is not None:
        return known
    default = key.field.get_default()
    if key.choices:
        return next((each for each in key.choices if each != default), key.choices[0])
    if key.bare is bool:
        return not default
    if is_bytes(key.name):
        return written_bytes(default) if default else "2GiB"
    if default:
        return default[0] if key.is_list else default
    if key.bare is str:
        return "text"
    return {"s": 3600, "uid": 1000, "gid": 1000, "pids": 2048}.get(re.split(r"[_.]", key.name)[-1], 2)
