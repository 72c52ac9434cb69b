"""Whether there is a screen on which a browser could be opened."""

from __future__ import annotations

import os


def has_display() -> bool:
    """X11 or Wayland, by the variables that their clients look for."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
