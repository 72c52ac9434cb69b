"""Amounts of memory and time: as people write them in settings, and as pages and messages say them.

Units of memory are binary, as Docker's are: `2GiB`, `2G` and `2 GB` are all 2 * 1024³ bytes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_SIZES = {"TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
_UNITS = {"": 1, **{unit[0]: size for unit, size in _SIZES.items()}}
_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def read_bytes(value: Any) -> Any:
    """Bytes from a text such as `2GiB` or `512M`; anything else is left to pydantic. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    found = _BYTES.fullmatch(value.strip())
    if found is None:
        raise ValueError("give a number of bytes, or one with a unit such as 512MiB or 2GiB")
    return round(float(found[1]) * _UNITS[found[2].upper()])


# A number of bytes in the settings.
Bytes = Annotated[int, BeforeValidator(read_bytes)]


def shown_bytes(value: int) -> str:
    """Bytes for people, such as `1.5 GiB`: rounded down, so that what is free is never said to be more."""
    for unit, size in _SIZES.items():
        if value >= size:
            tenths = value * 10 // size
            return f"{tenths // 10} {unit}" if tenths % 10 == 0 or tenths >= 1000 else f"{tenths / 10} {unit}"
    return f"{value} bytes"


def shown_gain(value: int) -> str:
    """By how many bytes something grew, for people; `1.5 GiB less` where it shrank."""
    return f"{shown_bytes(-value)} less" if value < 0 else shown_bytes(value)


def written_bytes(value: int) -> str:
    """Bytes as a setting can be written without loss, such as `2GiB`."""
    for unit, size in _SIZES.items():
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


def shown_seconds(value: float) -> str:
    """A span of time for people, such as `2 h 30 min`."""
    seconds = round(value)
    parts = [
        f"{amount} {unit}"
        for amount, unit in (
            (seconds // 86400, "d"),
            (seconds % 86400 // 3600, "h"),
            (seconds % 3600 // 60, "min"),
            (seconds % 60, "s"),
        )
        if amount
    ]
    return " ".join(parts[:2]) or "0 s"


def shown_number(value: float) -> str:
    """Processors for people: `2`, `0.5`."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
