"""Charts of the report: curves over steps, and accuracies with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from medrl.report import html
from medrl.report.svg import Axis, base_line, chart, element, number, polyline, share, stretched, ticks, value_axis, words

Point = tuple[float, float]
"""Step and value."""

LINE_POINTS = 240
"""Most points of a drawn line: more than a column of a screen can show, few enough for a small file."""


@cache
def curves() -> dict[str, str]:
    """Titles of the curves that are drawn where a log holds them, by their key of the log."""
    import yaml

    found: dict[str, str] = yaml.safe_load(Path(__file__).with_name("curves.yaml").read_text(encoding="utf-8"))
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
            found.append((float(step) if _is_number(step) else float(index), float(value)))  # type: ignore[arg-type]
    return found


def _is_number(value: Any) -> bool:
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


def smoothed(curve: Sequence[Point], most: int = LINE_POINTS) -> list[Point]:
    """Centred running mean at no more than ``most`` steps, the first and the last among them; cut windows at both ends."""
    half = half_window(len(curve))
    if not half:
        return list(curve)
    count, values = min(most, len(curve)), [value for _, value in curve]
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


def lines(title: str, curves: Sequence[Sequence[Point]], height: int = 120, *, raw: bool = True) -> Markup:
    """Curves over the same steps. ``raw`` draws every step faintly behind the running mean."""
    steps = [step for curve in curves for step, _ in curve]
    first, last = min(steps), max(steps)
    axis = Axis(_scale([value for curve in curves for _, value in (curve if raw else smoothed(curve))], height))

    def place(point: Point) -> Point:
        return 0.5 if first == last else (point[0] - first) / (last - first), height * (1 - axis.place(point[1]))

    drawn, ends = [], []
    for index, curve in enumerate(curves):
        means = smoothed(curve)
        if raw and half_window(len(curve)):
            drawn.append(polyline(list(map(place, thinned(curve))), f"raw s{index % 8}"))
        drawn.append(polyline(list(map(place, thinned(means))), style(index)))
        x, y = place(means[-1])
        ends.append(element("circle", class_=f"s{index % 8}", cx=share(x), cy=y, r=2.5))
    said = [(0.5, f"step {first:.0f}")] if first == last else [(0, f"step {first:.0f}"), (1, f"{last:.0f}")]
    return chart(title, height + 18, value_axis(axis, height), base_line(height, *said), stretched(height, *drawn), *ends)


def style(index: int) -> str:
    """Classes of a curve: a colour and dashes, so that equal curves show through each other and print in grey."""
    return f"s{index % 8} m{(index + index // 8) % 4}"


def swatch(classes: str) -> Markup:
    """A short line for a legend; the words beside it say what it means."""
    line = element("line", class_=classes, x1=1, x2=21, y1=4, y2=4)
    return element("svg", line, class_="swatch", width=22, height=8, aria_hidden="true")


def mark(index: int) -> Markup:
    """The vertical mark of a reference answer, for a legend."""
    line = element("line", class_=f"mark m{index % 4}", x1=4, x2=4, y1=0, y2=14)
    return element("svg", line, class_="swatch", width=8, height=14, aria_hidden="true")


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


def forest(title: str, panels: Sequence[Panel], shown: Callable[[float], str], scale: Sequence[float] | None = None) -> Markup:
    """Values with interval bars on one axis, below the name of each panel; the axis holds all intervals unless it is given."""
    ends = [end for panel in panels for dot in panel.dots for end in (dot.value, *(dot.ends or ()))]
    axis = Axis(scale or ticks(min(ends), max(ends), 5))
    drawn, y = [], 0
    for panel in panels:
        below = y + 22 + 14 * len(panel.dots)
        for index, value in panel.marks.items():
            x = share(axis.place(value))
            drawn.append(element("line", class_=f"mark m{index % 4}", x1=x, x2=x, y1=y + 22, y2=below))
        drawn.append(words(panel.name, 0, y + 14, class_="name halo"))
        drawn += [_labelled(axis, dot, y + 29 + 14 * index, panel.name, shown) for index, dot in enumerate(panel.dots)]
        y = below + (10 if len(panel.dots) > 1 or panel.marks else 2)
    grid = [
        element("line", class_="grid", x1=share(axis.place(tick)), x2=share(axis.place(tick)), y1=0, y2=y) for tick in axis.ticks
    ]
    return chart(title, y + 18, *grid, base_line(y, *((axis.place(tick), number(tick)) for tick in axis.ticks)), *drawn)


def _labelled(axis: Axis, dot: Dot, y: int, name: str, shown: Callable[[float], str]) -> Markup:
    """A bar with its value beside it, on the side that has room."""
    low, high = (axis.place(end) for end in dot.ends or (dot.value, dot.value))
    x, dx, anchor, up = (high, 9, "start", 0) if high < 0.88 else (low, -9, "end", 0)
    if low < 0.12 and high >= 0.88:
        x, dx, anchor, up = axis.place(dot.value), 0, "middle", 10
    said = f"{name}: {shown(dot.value)}" + (f", 95 % interval {' to '.join(map(shown, dot.ends))}" if dot.ends else "")
    number_beside = words(shown(dot.value), x, y + 4 - up, anchor, dx, f"halo of-{dot.kind}")
    return element("g", element("title", said), _bar(axis, dot, y), number_beside)


def _bar(axis: Axis, dot: Dot, y: int) -> Markup:
    circle = element("circle", class_=dot.kind, cx=share(axis.place(dot.value)), cy=y, r=4)
    if not dot.ends:
        return circle
    low, high = (share(axis.place(end)) for end in dot.ends)
    return element("line", class_=f"bar {dot.kind}", x1=low, x2=high, y1=y, y2=y) + circle


def interval(title: str, dot: Dot) -> Markup:
    """One accuracy in per cent with its interval, for a row of a table."""
    axis = Axis((0, 50, 100))
    ends = [element("line", class_="grid", x1=share(place), x2=share(place), y1=0, y2=14) for place in (0, 0.5, 1)]
    return chart(title, 14, *ends, _bar(axis, dot, 7))


WIDTH = 720
"""Pixels of a chart that is a file of its own."""
Row = tuple[str, float, tuple[float, float] | None]
"""Label, value, and interval where there is one."""


def figure(title: str, rows: Sequence[Row]) -> str:
    """An SVG file, light and dark: a dot with its interval for each row.

    Args:
        title: What the values are, with their unit; stands above the rows.
        rows: A label, a value in any unit and its interval each. Without rows, the title alone.
    """
    panels = [Panel(label, [Dot(value, ends)]) for label, value, ends in rows]
    height = 38 * len(rows) + 64 if rows else 40
    drawn = [forest(title, panels, number)] if rows else []
    # The chart's places are shares of its own width, so that it keeps a margin inside the file's.
    placed = [Markup(str(each).replace("<svg ", f'<svg x="20" y="34" width="{WIDTH - 40}" ', 1)) for each in drawn]
    looks = f"{html.css()} .chart {{ width: {WIDTH - 40}px; }} text.title {{ font: 600 14px/1 var(--sans); fill: var(--ink); }}"
    parts = [
        element("title", title), element("style", Markup(f"{looks} rect.paper {{ fill: var(--paper); }}")),
        element("rect", class_="paper", width="100%", height="100%"), element("text", title, class_="title", x=20, y=24), *placed,
    ]  # fmt: skip
    box = {"width": WIDTH, "height": height, "viewBox": f"0 0 {WIDTH} {height}", "role": "img"}
    return str(element("svg", *parts, xmlns="http://www.w3.org/2000/svg", **box)) + "\n"
