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


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of its own among others: `x` and `width` of `WIDTH`, `y` and `height` of `HEIGHT`."""

    title: str
    x: float
    y: float
    width: float
    height: float


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


def bars(amounts: Sequence[tuple[str, float]]) -> list[Bar]:
    """Bars beside each other, the largest as high as the picture."""
    most = max((amount for _, amount in amounts), default=0.0)
    if not most:
        return []
    step = WIDTH / len(amounts)
    return [
        Bar(
            title,
            round(step * place + step * 0.1, 2),
            round(HEIGHT * (1 - amount / most), 2),
            round(step * 0.8, 2),
            round(HEIGHT * amount / most, 2),
        )
        for place, (title, amount) in enumerate(amounts)
    ]


def _points(places: Sequence[tuple[float, float]], top: int) -> str:
    return " ".join(f"{x:.1f},{HEIGHT * (1 - min(amount / top, 1.0)):.2f}" for x, amount in places)
