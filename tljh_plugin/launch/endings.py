"""Why a server was stopped by a rule of its profile: told to its person at their next visit.

The hub writes it, the service reads it; both own the state folder. A lost note loses a sentence, no more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

log = logging.getLogger("littlest_binder.launch")

_FOLDER = "endings"


@dataclass(frozen=True)
class Ending:
    """`why` is a sentence for people; `time` is UTC, ISO 8601."""

    why: str
    time: str


def note(state_dir: Path, person: str, server: str, why: str) -> None:
    """Keep why a server was stopped; a full disk is only logged."""
    place = _place(state_dir, person, server)
    ending = Ending(why, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    draft = place.with_suffix(".new")
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(ending), file)
        draft.replace(place)
    except OSError as error:
        log.warning("Cannot note in %s why a server was stopped: %s", place, error.strerror)


def forget(state_dir: Path, person: str, server: str) -> None:
    """The server starts again, or its name is gone."""
    with suppress(OSError):
        _place(state_dir, person, server).unlink(missing_ok=True)


def read(state_dir: Path, person: str, server: str) -> Ending | None:
    """Why the server was stopped, if a rule of its profile did it and it was not started since."""
    with suppress(OSError, ValueError, TypeError):
        return Ending(**json.loads(_place(state_dir, person, server).read_text(encoding="utf-8")))
    return None


def _place(state_dir: Path, person: str, server: str) -> Path:
    """Names of people and servers may hold anything."""
    digest = hashlib.sha256(json.dumps([person, server]).encode()).hexdigest()
    return state_dir / _FOLDER / f"{digest[:32]}.json"
