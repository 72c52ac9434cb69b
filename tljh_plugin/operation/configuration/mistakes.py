"""What the hub would refuse, and what `tljh-config` or a hasty hand made of a value.

The types are pydantic's own, from `settings.py`; here each of its errors gets the line and what to do.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ...amounts import shown_bytes
from ...errors import SettingsError
from ...settings import OWN, Settings, explain, from_mapping
from .file import SettingsFile
from .finding import Finding, Remark
from .keys import bare, is_bytes, look_up, near

_TIMES = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_MIB = 1024**2


def validated(file: SettingsFile) -> tuple[Settings | None, list[Finding]]:
    """The settings, if they hold, and everything that is wrong with the values as they stand in the file."""
    section = file.section
    given = {} if section is None else section
    try:
        settings = from_mapping(
            given,
            platform=file.platform,
            state_dir=file.state_dir,
            owner=file.owner,
            source=str(file.path),
            origin=file.path,
        )
    except SettingsError as error:
        return None, list(_all_mistakes(file, given, error))
    found = (Finding(each.level, each.key, str(file.path), line, each.message, each.next)
             for each, line in _suspicious(file, given, ()))  # fmt: skip
    return settings, list(found)


def _all_mistakes(file: SettingsFile, section: Any, first: SettingsError) -> Iterator[Finding]:
    """All that pydantic finds at once; `first` as well where it was found before pydantic was asked."""
    own = sorted(OWN & set(section)) if isinstance(section, Mapping) else []
    if own or not isinstance(section, Mapping):
        line = file.line("binder", *own[:1])
        yield Finding("mistake", own[0] if own else "", str(file.path), line, first.message, first.next_step)
        section = {key: value for key, value in section.items() if key not in OWN} if own else {}
    try:
        Settings.model_validate(section)
    except ValidationError as error:
        for each in error.errors():
            keys = each["loc"]
            where = file.where("binder", *keys)
            told = explain(each, where)
            advice = _trap(file, each) or told.next_step
            line = file.line("binder", *keys)
            name = ".".join(map(str, keys))
            message = told.message.replace(f" in {where}", "").replace(f"In {where} ", "")
            yield Finding("mistake", name, str(file.path), line, message, _ours(advice))


def _ours(advice: str) -> str:
    return advice.replace("Correct it and run the command again.", "Correct it in the file.")


# -- what went wrong on the way into the file -----------------------------------------------------------


def _trap(file: SettingsFile, mistake: ErrorDetails) -> str:
    """What to do about a value that is wrong for a reason that can be told; empty for others."""
    keys, value = mistake["loc"], mistake["input"]
    name = "binder." + ".".join(map(str, keys))
    if mistake["type"] == "extra_forbidden":
        return _misplaced(keys)
    if value is None:
        return f"Take the line out for the default: `tljh-config unset {name}` (`set … none` writes null)."
    kind = mistake["type"]
    if kind == "tuple_type":
        return _no_list(file, keys, value)
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return (
            f'Put it in quotes in {file.path}: `"{value}"`. `tljh-config` makes numbers of digits '
            "(`0755` becomes 755) and true or false of these words, so the text may have been another one."
        )
    if kind in ("float_parsing", "int_parsing") and (seconds := _seconds(keys, value)):
        return f"Give seconds as a plain number: {seconds:g}."
    if kind == "literal_error" and isinstance(value, str):
        allowed = re.findall(r"'([^']+)'", str(mistake.get("ctx", {}).get("expected", "")))
        alike = difflib.get_close_matches(value.lower(), allowed, n=1)
        return f"Did you mean `{alike[0]}`?" if alike else ""
    if kind in ("model_type", "dict_type") and keys and isinstance(keys[-1], int):
        return "Each entry of the list is keys and values: `- id: …`."
    return ""


def _no_list(file: SettingsFile, keys: Sequence[str | int], value: Any) -> str:
    name = "binder." + ".".join(map(str, keys))
    of_objects = any("[]" in each.name for each in _keys_of(name))
    if isinstance(value, Mapping) and of_objects:
        return (
            "It must be a list of entries, `- id: …`. `tljh-config set` cannot reach into a list: it put "
            f"keys such as `0` in its place, and what stood there is gone. Edit {file.path}."
        )
    if of_objects:
        return f"It is a list of entries, `- id: …`, which `tljh-config` cannot write. Edit {file.path}."
    entries = [each for each in re.split(r"[\s,]+", str(value).strip("[]")) if each]
    if file.platform == "tljh":
        commands = [f"tljh-config unset {name}", *(f"tljh-config add-item {name} {each}" for each in entries)]
        shown = "; ".join(f"`{each}`" for each in commands)
        return f"It must be a list, which `tljh-config set` cannot write: {shown}."
    return f"Make it a list: `[{', '.join(entries)}]`."


def _keys_of(name: str) -> list[Any]:
    try:
        return look_up(name)
    except SettingsError:
        return []


def _misplaced(keys: Sequence[str | int]) -> str:
    """An unknown key that is one elsewhere."""
    name = ".".join(map(str, keys))
    last = str(keys[-1])
    elsewhere = [each for each in near(name) if each.rpartition(".")[2] == last]
    if len(keys) > 1 and elsewhere:
        return f"There is {' and '.join(f'`binder.{each}`' for each in elsewhere)}: did you mean that?"
    return ""


def _seconds(keys: Sequence[str | int], value: Any) -> float | None:
    """`10m`, `2 h` as seconds, where seconds are wanted."""
    if not keys or not str(keys[-1]).endswith("_s"):
        return None
    found = re.fullmatch(
        r"(\d+(?:\.\d+)?)\s*([a-z]+?)(?:utes?|ours?|ays?|econds?|s)?", str(value).strip().lower()
    )
    return float(found[1]) * _TIMES[found[2]] if found and found[2] in _TIMES else None


# -- what is taken, and hardly meant --------------------------------------------------------------------


def _suspicious(
    file: SettingsFile, value: Any, keys: tuple[str | int, ...]
) -> Iterator[tuple[Remark, int | None]]:
    """Values that hold, though nobody means them."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _suspicious(file, each, (*keys, str(name)))
        return
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _suspicious(file, each, (*keys, number))
        return
    name = ".".join(map(str, keys))
    found = _keys_of(name)
    if len(found) != 1:
        return
    kind = bare(found[0].field.annotation)
    remark = None
    if isinstance(value, bool) and kind in (int, float):
        remark = Remark(
            "warning", name, f"`binder.{name}` is {str(value).lower()}, and counts as {int(value)}.",
            "Give a number.",
        )  # fmt: skip
    elif is_bytes(name) and isinstance(value, int) and 0 < value < _MIB and keys[0] != "source":
        remark = Remark(
            "warning", name, f"`binder.{name}` is {shown_bytes(value)}.",
            f"With a unit: `{value}GiB`, `{value}MiB`.",
        )  # fmt: skip
    elif kind is str and get_origin(kind) is None and str(value).lower() in ("none", "null", "~"):
        remark = Remark(
            "warning", name, f"`binder.{name}` is the text `{value}`.",
            f"For the default: `tljh-config unset binder.{name}`.",
        )  # fmt: skip
    if remark is not None:
        yield remark, file.line("binder", *keys)
