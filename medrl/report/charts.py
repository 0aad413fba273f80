"""Charts of the reports: curves over steps, values with their intervals, and scatters; ``charts.svg.j2`` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeGuard

from markupsafe import Markup

from medrl.files import packaged
from medrl.report.html import macros, number

Point = tuple[float, float]
"""Step and value."""

SCATTER_HEIGHT = 160
LINE_POINTS = 240
"""Most points of a drawn line: more than a column of a screen can show, few enough for a small file."""


@cache
def curves() -> dict[str, str]:
    """Titles of the curves that are drawn where a log holds them, by their key of the log."""
    found: dict[str, str] = packaged(__file__, "curves.yaml")
    return found


class Dot(NamedTuple):
    """A value with its interval."""

    value: float
    ends: Sequence[float] | None
    kind: str = "trained"
    """``base`` or ``trained``."""


class Panel(NamedTuple):
    """One or two values under a name, with marks of what they are compared with."""

    name: str
    dots: Sequence[Dot]
    marks: Mapping[int, float] = {}
    """By their place in the legend."""


def points(log: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    """The steps that logged a finite number under ``key``; a line without a step counts as the next one."""
    found = []
    for index, line in enumerate(log, start=1):
        value, step = line.get(key), line.get("step")
        if _is_number(value):
            found.append((float(step) if _is_number(step) else float(index), float(value)))
    return found


def with_speed(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The log with ``tokens_per_second`` of each step: what it has added to ``num_tokens``, by its ``seconds``."""
    found, before = [], 0.0
    for line in log:
        tokens, seconds = (float(value) if _is_number(value := line.get(key)) else 0.0 for key in ("num_tokens", "seconds"))
        known = seconds > 0 and tokens > before
        found.append({**line, "tokens_per_second": (tokens - before) / seconds} if known else line)
        before = tokens or before
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    # Beyond 1e100 the arithmetic of an axis overflows, and no curve means anything there.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def ends(log: Sequence[Mapping[str, Any]], key: str) -> tuple[str, str]:
    """Means over the first and the last tenth of the steps; a dash where nothing was logged there."""
    tenth = max(1, len(log) // 10)
    return _mean(points(log[:tenth], key)), _mean(points(log[-tenth:], key))


def _mean(curve: Sequence[Point]) -> str:
    if not curve:
        return "\N{EN DASH}"
    mean = sum(value for _, value in curve) / len(curve)
    return f"{mean:.3f}".replace("-", "\N{MINUS SIGN}") if 0.01 <= abs(mean) < 1e3 else number(float(f"{mean:.3g}"))


def half_window(count: int) -> int:
    """Steps that a running mean takes in on either side; 0 where there are too few to smooth."""
    return 0 if count < 20 else max(1, round(count / 20))


def smoothed(curve: Sequence[Point]) -> list[Point]:
    """Centred running mean at no more than `LINE_POINTS` steps, the first and the last among them; cut windows at both ends."""
    half = half_window(len(curve))
    if not half:
        return list(curve)
    count, values = min(LINE_POINTS, len(curve)), [value for _, value in curve]
    means = []
    for index in (place * (len(curve) - 1) // (count - 1) for place in range(count)):
        window = values[max(0, index - half) : index + half + 1]
        means.append((curve[index][0], math.fsum(window) / len(window)))
    return means


def thinned(curve: Sequence[Point], most: int = LINE_POINTS) -> list[Point]:
    """At most ``most`` points that keep the first, the last, and the lowest and highest of every stretch between."""
    if len(curve) <= most:
        return list(curve)
    stretches = most // 2 - 1
    kept = {0, len(curve) - 1}
    for stretch in range(stretches):
        places = range(len(curve) * stretch // stretches, len(curve) * (stretch + 1) // stretches)
        kept.add(min(places, key=lambda place: curve[place][1]))
        kept.add(max(places, key=lambda place: curve[place][1]))
    return [curve[place] for place in sorted(kept)]


class Axis(NamedTuple):
    """Round numbers along an axis, and where values stand on it."""

    ticks: Sequence[float]

    def place(self, value: float) -> float:
        """0 at the first tick, 1 at the last; beyond them at the nearer."""
        return min(1.0, max(0.0, (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])))


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


def lines(title: str, curves: Sequence[Sequence[Point]], height: int = 120, *, raw: bool = True, unit: str = "step") -> Markup:
    """Curves over the same steps, or another ``unit``. ``raw`` draws every step faintly behind the running mean.

    An empty curve is not drawn, and keeps its colour.
    """
    steps = [step for curve in curves for step, _ in curve]
    first, last = min(steps), max(steps)
    axis = Axis(_scale([value for curve in curves for _, value in (curve if raw else smoothed(curve))], height))

    def place(point: Point) -> Point:
        return 0.5 if first == last else (point[0] - first) / (last - first), height * (1 - axis.place(point[1]))

    drawn, ends = [], []
    for index, curve in enumerate(curves):
        if not curve:
            continue
        means, colour = smoothed(curve), f"s{index % 8}"
        if raw and half_window(len(curve)):
            drawn.append((f"raw {colour}", list(map(place, thinned(curve)))))
        drawn.append((style(index), list(map(place, thinned(means)))))
        ends.append((colour, place(means[-1])))
    said = [(0.5, f"{unit} {first:.0f}")] if first == last else [(0, f"{unit} {first:.0f}"), (1, f"{last:.0f}")]
    return _drawn("lines", title, height, axis, said, drawn, ends, number)


def style(index: int) -> str:
    """Classes of a curve: a colour and dashes, so that equal curves show through each other and print in grey."""
    return f"s{index % 8} m{(index + index // 8) % 4}"


def _scale(values: Sequence[float], height: int) -> list[float]:
    """Ticks of the value axis; zero is shown where it is near."""
    low, high = min(values), max(values)
    if low == high == 0:
        return [0.0, 0.5, 1.0]
    if 0 <= low <= high / 2:
        low = 0.0
    elif low / 2 <= high <= 0:
        high = 0.0
    return ticks(low, high, min(6, height // 30))


def forest(
    title: str, panels: Sequence[Panel], shown: Callable[[float], str], scale: Sequence[float] | None = None, placed: str = ""
) -> Markup:
    """Values with interval bars on one axis, below the name of each panel; the axis holds all intervals unless it is given."""
    ends = [end for panel in panels for dot in panel.dots for end in (dot.value, *(dot.ends or ()))]
    axis, top, drawn = Axis(scale or ticks(min(ends), max(ends), 5)), 0, []
    for panel in panels:
        below = top + 22 + 14 * len(panel.dots)
        drawn.append((panel, top, below))
        top = below + (10 if len(panel.dots) > 1 or panel.marks else 2)
    said = [(axis.place(tick), number(tick)) for tick in axis.ticks]
    return _drawn("forest", title, top, axis, said, drawn, shown, Markup(placed))


def interval(title: str, dot: Dot) -> Markup:
    """One accuracy in per cent with its interval, for a row of a table."""
    return _drawn("interval", title, Axis((0, 50, 100)), dot)


class Spot(NamedTuple):
    """A point of a scatter."""

    x: float
    y: float
    title: str
    full: bool = True
    """Filled; hollow ones are what is passed over."""
    label: str = ""


def scatter(
    title: str,
    spots: Sequence[Spot],
    shown: Callable[[float], str],
    axis: str = "",
    *,
    logarithmic: bool = False,
    joined: bool = False,
) -> Markup:
    """Spots over one horizontal value; ``joined`` draws steps through the filled ones, which are in ascending order of it."""
    upright = Axis(ticks(min(spot.y for spot in spots), max(spot.y for spot in spots), 5))
    low, high = min(spot.x for spot in spots), max(spot.x for spot in spots)

    def place(spot: Spot) -> Point:
        parts = (math.log(spot.x / low), math.log(high / low)) if logarithmic else (spot.x - low, high - low)
        return 0.03 + 0.94 * (parts[0] / parts[1] if parts[1] else 0.5), SCATTER_HEIGHT * (1 - upright.place(spot.y))

    named = ", ".join(filter(None, [axis, "log scale" if logarithmic else ""]))
    said = [(0, number(low)), (1, number(high) if high != low else ""), (0.5, named)]
    steps = _steps([place(spot) for spot in spots if spot.full]) if joined else []
    placed = [(spot, place(spot)) for spot in sorted(spots, key=lambda spot: spot.full)]
    return _drawn("scatter", title, SCATTER_HEIGHT, upright, said, steps, placed, shown)


def _steps(places: Sequence[Point]) -> list[Point]:
    """What the cheapest of the filled spots reach up to each cost."""
    corners = list(places[:1])
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


WIDTH = 720
"""Pixels of a chart that is a file of its own."""
Row = tuple[str, float, tuple[float, float] | None]
"""Label, value, and interval where there is one."""


def figure(title: str, rows: Sequence[Row]) -> str:
    """An SVG file, light and dark: a dot with its interval for each row of label, value and interval, below a title with the
    unit. Without rows, the title alone.
    """
    panels = [Panel(label, [Dot(value, ends)]) for label, value, ends in rows]
    drawn = forest(title, panels, number, placed=f' x="20" y="34" width="{WIDTH - 40}"') if panels else ""
    return str(_drawn("file", title, WIDTH, 38 * len(rows) + 64 if rows else 40, drawn))


def _drawn(macro: str, *values: Any) -> Markup:
    found: Markup = getattr(macros("charts.svg.j2"), macro)(*values)
    return found
