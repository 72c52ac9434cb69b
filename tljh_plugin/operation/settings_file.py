"""Changing the desktop's `config.yaml`: one key at a time, comments kept, never leaving an invalid file.

The installer runs this as a module, with `{"set": {...}, "default": {...}}` as its argument (keys such as
`build.mirror`); it prints what then applies as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ..errors import SettingsError
from ..settings import Settings, desktop_state_dir, from_mapping, load_desktop, read_file


def change(path: Path, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Set `values`, and those of `defaults` that the file does not set; whether the file changed.

    Raises `SettingsError` and leaves the file as it is if the outcome would not be valid.
    """
    read_file(path)
    yaml = YAML()
    document = yaml.load(path.read_text(encoding="utf-8")) if path.exists() else None
    if document is None:
        document = {}
    before = json.dumps(document)
    section = _section(document, "binder")
    for key, value in values.items():
        place, name = _place(section, key)
        place[name] = value
    for key, value in defaults.items():
        place, name = _place(section, key)
        place.setdefault(name, value)
    from_mapping(json.loads(json.dumps(section)), platform="desktop", state_dir=path.parent, source=str(path))
    if json.dumps(document) == before:
        return False
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    return True


def _place(section: Any, key: str) -> tuple[Any, str]:
    """The mapping in which a key such as `build.mirror` lies, and its name there."""
    *folders, name = key.split(".")
    for folder in folders:
        section = _section(section, folder)
    return section, name


def _section(place: Any, name: str) -> Any:
    if place.get(name) is None:
        place[name] = {}
    return place[name]


def in_force(settings: Settings) -> dict[str, object]:
    """What the installer needs to know."""
    return {
        "port": settings.desktop.port,
        "release": settings.build.release,
        "mirror": settings.build.mirror,
    }


def main(arguments: list[str]) -> int:
    try:
        given = json.loads(arguments[0]) if arguments else {}
        path = desktop_state_dir() / "config.yaml"
        if given:
            change(path, given.get("set", {}), given.get("default", {}))
        sys.stdout.write(json.dumps(in_force(load_desktop())) + "\n")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
