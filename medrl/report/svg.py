"""Elements of inline SVG.

Horizontal places are percentages and vertical ones pixels: a chart fills its column, and its words keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from medrl.report.html import MINUS, visible


def element(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; text in it is escaped, and the underscore after ``class_`` and ``x_`` is dropped.

    A number is written with two digits after the point.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"' for key, value in attributes.items() if value != ""
    )
    content = "".join(part if isinstance(part, Markup) else escape(visible(part)) for part in inside)
    return Markup(f"<{name}{written}>{content}</{name}>")


def _attribute(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(visible(value))


def share(value: float) -> str:
    """A horizontal place: 0 is the left end, 1 the right."""
    return f"{100 * value:.2f}%"


def words(said: object, x: float, y: float, anchor: str = "start", dx: int = 0, class_: str = "") -> Markup:
    """Text whose base line begins, ends or has its middle at a place."""
    return element("text", said, class_=class_, x=share(x), dx=dx, y=y, text_anchor=anchor)


def chart(title: str, height: int, *drawn: Markup) -> Markup:
    """A chart as wide as its column, with a title for who cannot see it."""
    return element("svg", element("title", title), *drawn, class_="chart", height=height, role="img")


def stretched(height: int, *lines: Markup) -> Markup:
    """Lines whose places are thousandths of the width."""
    box = f"0 0 1000 {height}"
    return element("svg", *lines, width="100%", height=height, viewBox=box, preserveAspectRatio="none")


def polyline(places: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through places, horizontal ones as shares."""
    return element("polyline", class_=f"line {class_}", points=" ".join(f"{1000 * x:.1f},{y:.1f}" for x, y in places))


class Axis(NamedTuple):
    """Round numbers along an axis, and where values stand on it."""

    ticks: Sequence[float]

    def place(self, value: float) -> float:
        """0 at the first tick, 1 at the last; beyond them at the nearer."""
        return min(1.0, max(0.0, (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])))


def number(value: float) -> str:
    """A number in few characters: 12.5k, 0.04, 5e-5."""
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    elif size >= 1e6:
        text = f"{value / 1e6:.4g}M"
    else:
        text = f"{value / 1e3:.4g}k" if size >= 1e4 else f"{value:.4g}"
    return text.replace("-", MINUS)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that enclose ``low`` and ``high``, ``most`` steps apart or fewer."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) / 2 or 0.5
        low, high = low - pad, high + pad
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (unit, 2 * unit, 2.5 * unit, 5 * unit, 10 * unit, 20 * unit):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [index * step for index in range(first, last + 1)]


def value_axis(axis: Axis, height: int, shown: Callable[[float], str] = number) -> Markup:
    """Lines across the chart with their numbers before them."""
    drawn = []
    for value in axis.ticks:
        y = height * (1 - axis.place(value))
        drawn.append(element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        drawn.append(words(shown(value), 0, y + 4, "end", -7))
    return Markup("").join(drawn)


def base_line(height: int, *said: tuple[float, str]) -> Markup:
    """The lower edge of a chart with words below it, each at a share of the width."""
    line = element("line", class_="axis", x1=0, x2="100%", y1=height, y2=height)
    anchors: dict[float, str] = {0: "start", 1: "end"}
    return line + Markup("").join(words(text, x, height + 15, anchors.get(x, "middle")) for x, text in said if text)
