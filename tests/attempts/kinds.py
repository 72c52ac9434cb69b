"""All kinds of attempts at run time, in the order in which they are tried."""

from __future__ import annotations

from . import becoming_root, exhausting, leaving, lying, reaching

KINDS = (becoming_root, leaving, reaching, exhausting, lying)
