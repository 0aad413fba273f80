"""Scatters of a sweep as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medrl.report.svg import Axis, base_line, chart, element, number, polyline, share, stretched, ticks, value_axis, words

HEIGHT = 160


@dataclass(frozen=True)
class Dot:
    """A point of a scatter."""

    x: float
    y: float
    title: str
    full: bool = True
    """Filled; hollow ones are what is passed over."""
    label: str = ""


def scatter(
    title: str,
    dots: Sequence[Dot],
    shown: Callable[[float], str],
    axis: str = "",
    *,
    logarithmic: bool = False,
    joined: bool = False,
) -> Markup:
    """Dots over one horizontal value; ``joined`` draws steps through the filled ones, which are in ascending order of it."""
    upright = Axis(ticks(min(dot.y for dot in dots), max(dot.y for dot in dots), 5))
    low, high = min(dot.x for dot in dots), max(dot.x for dot in dots)

    def place(dot: Dot) -> tuple[float, float]:
        parts = (math.log(dot.x / low), math.log(high / low)) if logarithmic else (dot.x - low, high - low)
        return 0.03 + 0.94 * (parts[0] / parts[1] if parts[1] else 0.5), HEIGHT * (1 - upright.place(dot.y))

    drawn = [value_axis(upright, HEIGHT, shown)]
    named = ", ".join(filter(None, [axis, "log scale" if logarithmic else ""]))
    drawn.append(base_line(HEIGHT, *{0: number(low), 1: number(high) if high != low else "", 0.5: named}.items()))
    if joined:
        drawn.append(stretched(HEIGHT, polyline(_steps([place(dot) for dot in dots if dot.full]), "s0 m1")))
    for dot in sorted(dots, key=lambda dot: dot.full):
        x, y = place(dot)
        kind = "trained" if dot.full else "base"
        drawn.append(element("circle", element("title", dot.title), class_=kind, cx=share(x), cy=y, r=4))
        if dot.label:
            drawn.append(words(dot.label, x, y - 6, *(("start", 8) if x < 0.85 else ("end", -8)), "halo ink"))
    return chart(title, HEIGHT + 18, *drawn)


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What the cheapest of the filled dots reach up to each cost."""
    corners = list(places[:1])
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners
