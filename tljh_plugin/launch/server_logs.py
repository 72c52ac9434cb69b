"""Names of servers' containers, and the logs of those that ended by themselves."""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from pathlib import Path

log = logging.getLogger("littlest_binder.launch")

_KEPT = 50


def container_name(person: str, server: str) -> str:
    """A name that no other container has and from which an administrator sees whose it is."""
    whose = "-".join(part for part in (_plain(person), _plain(server)) if part)
    return f"littlest-binder-server-{whose}-{secrets.token_hex(6)}"


def keep(log_dir: Path, person: str, server: str, text: str) -> Path:
    """Write a log where the administrator finds it, and forget the oldest beyond 50; its place.

    A full disk must not keep a container from being removed, so that failure is only logged.
    """
    folder = log_dir / "servers"
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = folder / f"{moment}-{_plain(person)}-{_plain(server) or 'default'}-{secrets.token_hex(3)}.log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        for old in sorted(folder.glob("*.log"))[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("Cannot keep a server's log in %s: %s", place, error.strerror)
    return place


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24]
