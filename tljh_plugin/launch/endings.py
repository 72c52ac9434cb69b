"""What a server's person is told at their next visit: why it ended though they did not stop it (`end`), and
which links in its home have another name than was said (`links`), as long as it runs.

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
from typing import Literal, get_args

log = logging.getLogger("littlest_binder.launch")

_FOLDER = "endings"


About = Literal["end", "links"]


@dataclass(frozen=True)
class Ending:
    """`why` is a sentence for people; `time` is UTC, ISO 8601."""

    why: str
    time: str


def note(state_dir: Path, person: str, server: str, why: str, about: About = "end") -> None:
    """Keep what is to be told; a full disk is only logged."""
    place = _place(state_dir, person, server, about)
    ending = Ending(why, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    draft = place.with_suffix(".new")
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(ending), file)
        draft.replace(place)
    except OSError as error:
        log.warning("Cannot note in %s what is to be told of a server: %s", place, error.strerror)


def forget(state_dir: Path, person: str, server: str) -> None:
    """The server starts again, or its name is gone."""
    for about in get_args(About):
        with suppress(OSError):
            _place(state_dir, person, server, about).unlink(missing_ok=True)


def read(state_dir: Path, person: str, server: str, about: About = "end") -> Ending | None:
    """What was noted since the server was started last."""
    with suppress(OSError, ValueError, TypeError):
        return Ending(**json.loads(_place(state_dir, person, server, about).read_text(encoding="utf-8")))
    return None


def _place(state_dir: Path, person: str, server: str, about: About) -> Path:
    """Names of people and servers may hold anything."""
    names = [person, server] if about == "end" else [person, server, about]
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    return state_dir / _FOLDER / f"{digest[:32]}.json"
