"""What people are told of a server that ended although the hub did not stop it."""

from __future__ import annotations

from typing import Literal

# What this hub saw of the server last: nothing yet (it was started before this hub), its start, that it ran,
# or that Docker could not be reached.
Seen = Literal["nothing", "start", "running", "no-docker"]


def why(ended: str, seen: Seen) -> str:
    """A sentence on an end that nobody asked for; empty where a start says itself how it went.

    `ended` is what Docker says of the container.
    """
    if seen == "start":
        return ""
    if seen == "no-docker":
        return "Docker was stopped or restarted, and the server ended with it."
    if seen == "nothing":
        return f"It ended while the hub was not running, as when the machine restarts: {ended}."
    return f"It ended, and the hub had not stopped it: {ended}."
