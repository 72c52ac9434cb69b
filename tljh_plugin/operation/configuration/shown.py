"""The settings in force, each with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ...settings import Settings, from_mapping
from .file import SettingsFile
from .keys import EFFECTIVE, written

_OF_PLATFORM = {"desktop": "default on a desktop", "tljh": "default on TLJH", "jupyterhub": "default"}


@dataclass(frozen=True)
class Value:
    """One value. `source` is `file`, `platform` or `default`; `line` where the file says it."""

    key: str
    value: Any
    source: str
    where: str
    line: int | None = None

    @property
    def shown(self) -> str:
        """The value as it stands in YAML."""
        return written(self.key, self.value) or "(none)"


def in_force(file: SettingsFile) -> list[Value]:
    """Every value, in the order of the reference. Raises `SettingsError` if the file does not hold."""
    settings = from_mapping(
        file.section or {},
        platform=file.platform,
        state_dir=file.state_dir,
        owner=file.owner,
        source=str(file.path),
        origin=file.path,
    )
    return list(_values(file, settings, settings, ()))


def _values(
    file: SettingsFile, settings: Settings, model: BaseModel, place: tuple[str | int, ...]
) -> Iterator[Value]:
    for name, field in type(model).model_fields.items():
        if field.exclude:
            continue
        value, here = getattr(model, name), (*place, name)
        yield from _value(file, settings, value, here)


def _value(
    file: SettingsFile, settings: Settings, value: Any, place: tuple[str | int, ...]
) -> Iterator[Value]:
    if isinstance(value, BaseModel):
        yield from _values(file, settings, value, place)
    elif isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from _value(file, settings, each, (*place, name))
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for number, each in enumerate(value):
            yield from _value(file, settings, each, (*place, number))
    else:
        yield _leaf(file, settings, value, place)


def _leaf(file: SettingsFile, settings: Settings, value: Any, place: tuple[str | int, ...]) -> Value:
    key = ".".join(map(str, place))
    line = file.places.line(["binder", *place])
    if line is not None and value is not None:
        return Value(f"binder.{key}", value, "file", f"{file.path}:{line}", line)
    if key in EFFECTIVE and not value:
        effective = getattr(settings, EFFECTIVE[key])
        plain = effective if isinstance(effective, (bool, int)) else str(effective)
        return Value(f"binder.{key}", plain, "platform", _OF_PLATFORM[file.platform])
    return Value(f"binder.{key}", value, "default", "default")
