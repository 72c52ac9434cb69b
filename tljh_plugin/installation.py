"""This installation's own identity: a random id and a secret, created once in the state folder.

The id is the value of the label `org.littlest-binder.instance` on containers, networks and volumes (never
on images, whose labels containers inherit). The secret signs the labels of images.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .errors import SettingsError
from .settings import Settings

# In the state folder while a restore gives things their names.
UNFINISHED = ".restore-unfinished"
# In the state folder; its time is when the last good backup ended, wherever that lies.
LAST_BACKUP = "last-backup"


def ensure_state(settings: Settings) -> None:
    """Create the state folder and its private parts; can be run again. Raises `SettingsError`, also if a
    restore was interrupted while half of what is here was replaced.
    """
    if (settings.state_dir / UNFINISHED).exists():
        raise SettingsError(
            f"A restore into {settings.state_dir} was interrupted, and is not finished.",
            "Run the same `littlest-binder restore` once more.",
        )
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        for folder in (settings.run_dir, settings.log_dir, settings.checkout_dir, settings.mirror_dir):
            folder.mkdir(exist_ok=True)
        settings.run_dir.chmod(0o700)
        settings.log_dir.chmod(0o700)
        _ensure_file(settings.state_dir / "instance", secrets.token_hex(8), 0o644)
        _ensure_file(settings.state_dir / "secret", secrets.token_hex(32), 0o600)
    except OSError as error:
        raise SettingsError(
            f"Cannot prepare the state folder {settings.state_dir}: {error.strerror} ({error.filename}).",
            "Check its owner and the free disk.",
        ) from error


def _ensure_file(path: Path, content: str, mode: int) -> None:
    """Create with `content` unless it is there, atomically: two starters agree on one content."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def instance_id(settings: Settings) -> str:
    """16 hexadecimal digits."""
    return _read(settings, "instance")


def secret(settings: Settings) -> bytes:
    """32 bytes."""
    return bytes.fromhex(_read(settings, "secret"))


def _read(settings: Settings, name: str) -> str:
    path = settings.state_dir / name
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(
            f"Cannot read {path}: {error.strerror}.",
            "Run `littlest-binder up` as the owner of the state folder.",
        ) from error
