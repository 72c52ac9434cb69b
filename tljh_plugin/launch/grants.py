"""The folders that the one person of a desktop has picked, in a file that hub and service read.

The service writes it when a folder is picked; what a server is started with is the id alone, and the path is
looked at again at each start.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import NotFound, SettingsError

Access = Literal["read-only", "read-write"]

_MOST = 200
_writing = threading.Lock()


class Grant(BaseModel):
    """A folder that was picked; `path` has no links in it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    path: str
    access: Access


class _Grants(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    grants: tuple[Grant, ...] = ()


def read(path: Path) -> tuple[Grant, ...]:
    """What was picked, oldest first. Raises `SettingsError` for a file that is damaged."""
    try:
        return _Grants.model_validate_json(path.read_bytes()).grants
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SettingsError(
            f"Cannot read {path}: {error.strerror}.", "Check its owner; it belongs to the installation."
        ) from None
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged.", "Remove it and pick the folders again: nothing else is in it."
        ) from None


def add(path: Path, folder: str, access: Access) -> Grant:
    """Pick a folder; one that was picked gets the new access and keeps its id."""
    with _writing:
        known = read(path)
        before = next((each for each in known if each.path == folder), None)
        grant = Grant(id=before.id if before else f"grant-{secrets.token_hex(6)}", path=folder, access=access)
        others = tuple(each for each in known if each.path != folder)
        if len(others) >= _MOST:
            raise SettingsError(
                f"{len(others)} folders are picked, and no more are kept.", "Let go of one that is not used."
            )
        _write(path, (*others, grant))
    return grant


def remove(path: Path, identifier: str) -> Grant:
    """Forget a pick, and tell what it was; servers keep the folder until they stop. Raises `NotFound`."""
    with _writing:
        known = read(path)
        gone = next((each for each in known if each.id == identifier), None)
        if gone is None:
            raise NotFound(f"No folder was picked as `{identifier:.60}`.", "See the page Folders.")
        _write(path, tuple(each for each in known if each is not gone))
    return gone


def _write(path: Path, grants: tuple[Grant, ...]) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(_Grants(grants=grants).model_dump(), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
