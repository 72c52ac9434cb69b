"""Pictures of numbers, as the coordinates of SVG elements: a bar that is split, and what was over time.

Templates draw them; colours come from classes of the style sheet, since styles in a page are not allowed by
its content security policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH, HEIGHT = 1000.0, 100.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the bar: where it begins and how wide it is, of `WIDTH`."""

    id: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Area:
    """One of the areas that lie on each other: the points of a polygon in `WIDTH` by `HEIGHT`."""

    id: str
    points: str


def split_bar(amounts: Sequence[tuple[str, int]], whole: int) -> list[Piece]:
    """The pieces of a bar, as wide as their parts of the whole; none for nothing."""
    pieces, x = [], 0.0
    for name, amount in amounts:
        width = WIDTH * amount / whole if whole else 0.0
        if width > 0:
            pieces.append(Piece(name, round(x, 2), round(min(width, WIDTH - x), 2)))
        x += width
    return pieces


def stacked(
    names: Sequence[str], samples: Sequence[tuple[datetime, Mapping[str, int]]], top: int
) -> list[Area]:
    """Areas on each other, the first at the bottom, over the time of the samples; what adds up to `top`
    reaches the upper edge. Nothing with fewer than two samples.
    """
    if len(samples) < 2 or not top:
        return []
    first, last = samples[0][0], samples[-1][0]
    span = (last - first).total_seconds() or 1.0
    places = [WIDTH * (moment - first).total_seconds() / span for moment, _ in samples]
    below = [0.0] * len(samples)
    areas = []
    for name in names:
        above = [low + amounts.get(name, 0) for low, (_, amounts) in zip(below, samples, strict=True)]
        if above != below:
            upper = list(zip(places, above, strict=True))
            lower = list(zip(places, below, strict=True))
            areas.append(Area(name, _points([*upper, *reversed(lower)], top)))
        below = above
    return areas


def lengths(amounts: Sequence[float]) -> list[float]:
    """How long bars are that stand below each other, the longest as wide as the picture."""
    most = max(amounts, default=0.0)
    return [round(WIDTH * amount / most, 2) if most else 0.0 for amount in amounts]


def _points(places: Sequence[tuple[float, float]], top: int) -> str:
    return " ".join(f"{x:.1f},{HEIGHT * (1 - min(amount / top, 1.0)):.2f}" for x, amount in places)
