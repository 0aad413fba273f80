"""Drawings of a sweep as inline SVG: means with intervals, scatters, and parallel coordinates.

As in ``medrl.report.charts``, horizontal places are percentages and vertical ones pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrl import style
from medrl.report import charts
from medrl.report.charts import escaped
from medrl.sweep.report.effects import show
from medrl.sweep.report.results import key, numeric

Row = tuple[str, float, tuple[float, float] | None]
"""Label, value, and interval where there is one."""

SHADES = 6
"""Colours from the worst value to the best."""

BY_PLACE = 6
"""Distinct values of a parameter up to which they stand at equal distances, whatever they are."""

STYLE = (
    style.STYLE
    + """
.q0 { stroke: var(--s1); } .q5 { stroke: var(--s0); }
.q1 { stroke: color-mix(in oklab, var(--s1) 65%, var(--base)); } .q2 { stroke: color-mix(in oklab, var(--s1) 30%, var(--base)); }
.q3 { stroke: color-mix(in oklab, var(--s0) 30%, var(--base)); } .q4 { stroke: color-mix(in oklab, var(--s0) 65%, var(--base)); }
.lost { stroke: var(--quiet); } .chart .line.best { stroke-width: 3.5; }
.coordinates { min-width: 38rem; padding: 0 4.5rem; }
.chart .ink { fill: var(--ink); }
.first + h1 { margin-top: 1rem; }
@media (max-width: 44rem) { td.left { min-width: 7rem; } }
section > ul { max-width: 46rem; padding-left: 1.25rem; } section > ul li { margin: .5rem 0; }
"""
)
"""The report's style sheet and what these drawings add."""

WIDTH = 720
"""Pixels of a drawing that stands alone."""


def grid(title: str, rows: Sequence[Row]) -> str:
    """A file of its own: a dot with its interval for each point of a grid of runs. Light and dark, nothing is loaded.

    Args:
        title: What the values are, with their unit; stands above the rows.
        rows: A label, a value in any unit and its interval each. Without rows, the title alone.
    """
    height = _rows_height(rows) + 46 if rows else 40
    # The drawing's places are shares of its own width, so that it keeps a margin inside the file's.
    drawn = intervals(title, rows).replace("<svg ", f'<svg x="20" y="34" width="{WIDTH - 40}" ', 1) if rows else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escaped(title)}</title><style>{STYLE} .chart {{ width: {WIDTH - 40}px; }} "
        "text.title { font: 600 14px/1 var(--sans); fill: var(--ink); } rect.paper { fill: var(--paper); }</style>"
        f'<rect class="paper" width="100%" height="100%"/>'
        f'<text class="title" x="20" y="24">{escaped(title)}</text>{drawn}</svg>\n'
    )


def intervals(title: str, rows: Sequence[Row], shown: Callable[[float], str] = charts.number) -> str:
    """A labelled dot with its interval for each row, on one axis. An interval far wider than the values differ is cut."""
    scale = charts.ticks(*_reach(rows), 5)

    def across(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - scale[0]) / (scale[-1] - scale[0])))

    height = _rows_height(rows) - 18
    drawn = []
    for index, value in enumerate(scale):
        anchor = "start" if index == 0 else "end" if index == len(scale) - 1 else "middle"
        drawn.append(f'<line class="grid" x1="{across(value):.2f}%" x2="{across(value):.2f}%" y1="0" y2="{height}"/>')
        drawn.append(f'<text x="{across(value):.2f}%" y="{height + 15}" text-anchor="{anchor}">{shown(value)}</text>')
    drawn.append(f'<line class="axis" x1="0" x2="100%" y1="{height}" y2="{height}"/>')
    for index, (label, value, ci95) in enumerate(rows):
        y, low, high = 34 * index + 26, across(ci95[0] if ci95 else value), across(ci95[1] if ci95 else value)
        place = f'x="{high:.2f}%" dx="9"' if high < 88 else f'x="{low:.2f}%" dx="-9" text-anchor="end"'
        if low < 12 and high >= 88:
            place = f'x="{across(value):.2f}%" y="{y - 8}" text-anchor="middle"'
        said = f"{label}: {shown(value)}" + (f", 95 % interval {shown(ci95[0])} to {shown(ci95[1])}" if ci95 else "")
        bar = f'<line class="bar trained" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>' if ci95 else ""
        number = place if " y=" in place else f'{place} y="{y + 4}"'
        drawn.append(
            f'<g><title>{escaped(said)}</title><text class="halo ink" x="0" y="{y - 11}">{escaped(label)}</text>{bar}'
            f'<circle class="trained" cx="{across(value):.2f}%" cy="{y}" r="4"/>'
            f'<text class="halo of-trained" {number}>{shown(value)}</text></g>'
        )
    return charts.svg(title, height + 18, "".join(drawn))


def _rows_height(rows: Sequence[Row]) -> int:
    return 34 * len(rows) + 28


def _reach(rows: Sequence[Row]) -> tuple[float, float]:
    """Ends of the axis: the intervals, but no further than twice the range of the values beyond them."""
    values = [value for _, value, _ in rows]
    ends = [end for _, _, ci95 in rows if ci95 for end in ci95] + values
    span = max(values) - min(values)
    if not span:
        return min(ends), max(ends)
    return max(min(ends), min(values) - 2 * span), min(max(ends), max(values) + 2 * span)


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
) -> str:
    """Dots over one horizontal value; ``joined`` draws steps through the filled ones, which are in ascending order of it."""
    height = 160
    scale = charts.ticks(min(dot.y for dot in dots), max(dot.y for dot in dots), 5)
    place = (lambda x: math.log10(x)) if logarithmic else (lambda x: x)
    low, high = min(place(dot.x) for dot in dots), max(place(dot.x) for dot in dots)

    def across(x: float) -> float:
        return 50.0 if low == high else 3 + 94 * (place(x) - low) / (high - low)

    def down(y: float) -> float:
        return height * (scale[-1] - y) / (scale[-1] - scale[0])

    drawn = []
    for value in scale:
        drawn.append(f'<line class="grid" x1="0" x2="100%" y1="{down(value):.1f}" y2="{down(value):.1f}"/>')
        drawn.append(f'<text x="0" dx="-7" y="{down(value):.1f}" dy="4" text-anchor="end">{shown(value)}</text>')
    drawn.append(f'<line class="axis" x1="0" x2="100%" y1="{height}" y2="{height}"/>')
    ends = [min(dot.x for dot in dots), max(dot.x for dot in dots)]
    drawn.append(f'<text x="0" y="{height + 15}">{charts.number(ends[0])}</text>')
    if ends[0] != ends[1]:
        drawn.append(f'<text x="100%" y="{height + 15}" text-anchor="end">{charts.number(ends[1])}</text>')
    if axis or logarithmic:
        named = axis + (", " if axis else "") * logarithmic + "log scale" * logarithmic
        drawn.append(f'<text x="50%" y="{height + 15}" text-anchor="middle">{escaped(named)}</text>')
    if joined:
        drawn.append(_steps([(across(dot.x), down(dot.y)) for dot in dots if dot.full], height))
    for dot in sorted(dots, key=lambda dot: dot.full):
        at = f'cx="{across(dot.x):.2f}%" cy="{down(dot.y):.1f}"'
        kind = "trained" if dot.full else "base"
        drawn.append(f'<circle class="{kind}" {at} r="4"><title>{escaped(dot.title)}</title></circle>')
        if dot.label:
            anchor = 'dx="8"' if across(dot.x) < 85 else 'dx="-8" text-anchor="end"'
            words = f'x="{across(dot.x):.2f}%" y="{down(dot.y):.1f}" dy="-6" {anchor}'
            drawn.append(f'<text class="halo ink" {words}>{escaped(dot.label)}</text>')
    return charts.svg(title, height + 18, "".join(drawn))


def _steps(places: Sequence[tuple[float, float]], height: int) -> str:
    """What the cheapest of the filled dots reach up to each cost."""
    corners = list(places[:1])
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    points = " ".join(f"{10 * x:.1f},{y:.1f}" for x, y in corners)
    line = f'<polyline class="line s0 m1" points="{points}"/>'
    return f'<svg width="100%" height="{height}" viewBox="0 0 1000 {height}" preserveAspectRatio="none">{line}</svg>'


@dataclass(frozen=True)
class Strand:
    """A point of a sweep through parallel coordinates."""

    parameters: Mapping[str, Any]
    value: float | None
    """None where there is none to compare: it ends below the last axis."""

    state: str
    title: str
    best: bool = False


class Axis:
    """Where the values of a parameter stand: at equal distances where they are few or words, else on a line or logarithmic."""

    def __init__(self, values: Sequence[Any], *, logarithmic: bool) -> None:
        distinct = {key(value): value for value in values}
        self.places: dict[str, float] = {}
        self.ticks: list[tuple[float, str]] = []
        if not numeric(list(distinct.values())) or len(distinct) <= BY_PLACE:
            ordered = sorted(distinct, key=lambda name: distinct[name]) if numeric(list(distinct.values())) else list(distinct)
            for index, name in enumerate(ordered):
                self.places[name] = index / (len(ordered) - 1) if len(ordered) > 1 else 0.5
            self.ticks = [(self.places[name], show(distinct[name])) for name in ordered]
            return
        numbers = {name: float(value) for name, value in distinct.items()}
        low, high = min(numbers.values()), max(numbers.values())
        for name, number in numbers.items():
            parts = (math.log(number / low), math.log(high / low)) if logarithmic else (number - low, high - low)
            self.places[name] = parts[0] / parts[1]
        self.ticks = [(0.0, charts.number(low)), (1.0, charts.number(high))]
        if logarithmic:
            self.ticks.insert(1, (0.5, charts.number(math.sqrt(low * high))))

    def place(self, value: Any) -> float:
        """From 0 at the bottom to 1 at the top."""
        return self.places[key(value)]


def shade(value: float, values: Sequence[float], *, maximise: bool) -> int:
    """Colour of a value, from 0 for the worst to ``SHADES`` - 1 for the best."""
    low, high = min(values), max(values)
    share = 0.5 if low == high else (value - low) / (high - low)
    return min(SHADES - 1, int(SHADES * (share if maximise else 1 - share)))


def parallel(
    title: str,
    names: Mapping[str, tuple[str, bool]],
    strands: Sequence[Strand],
    metric: str,
    shown: Callable[[float], str],
    *,
    maximise: bool,
) -> str:
    """Every point as a line through its parameters to its value, which colours it; what has no value ends in a cross.

    Args:
        title: For who cannot see it.
        names: Parameters, how they are called above their axes, and whether these are logarithmic.
        strands: Points of the sweep.
        metric: Name above the last axis.
        shown: How values are written.
        maximise: Whether more is better.
    """
    height, top, bottom, none = 340, 44, 270, 312
    axes = {
        name: Axis([each.parameters[name] for each in strands if name in each.parameters], logarithmic=logarithmic)
        for name, (_, logarithmic) in names.items()
    }
    values = [each.value for each in strands if each.value is not None]
    scale = charts.ticks(min(values), max(values), 5) if values else []
    places = [1000 * index / len(names) for index in range(len(names) + 1)] if names else [0.0, 1000.0]

    def up(share: float) -> float:
        return bottom - share * (bottom - top)

    lines, crosses = [], []
    order = sorted(range(len(strands)), key=lambda index: (strands[index].best, strands[index].value is not None))
    for index in order:
        strand = strands[index]
        # A few pixels apart, so that lines through the same values are seen side by side.
        shift = ((index * 7) % 11 - 5) * 0.8
        found = [
            (place, up(axes[name].place(strand.parameters[name])) + shift)
            for place, name in zip(places, names, strict=False)
            if name in strand.parameters
        ]
        if strand.value is None:
            crosses.append(
                f'<text x="100%" dx="{3 * shift:.1f}" y="{none + 4}" text-anchor="middle">\N{MULTIPLICATION SIGN}</text>'
            )
            found.append((places[-1], float(none)))
        else:
            found.append((places[-1], up((strand.value - scale[0]) / (scale[-1] - scale[0]))))
        colour = "lost" if strand.value is None else f"q{shade(strand.value, values, maximise=maximise)}"
        dashes = {"stopped": " m1", "failed": " m2"}.get(strand.state, "")
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in found)
        best = " best" if strand.best else ""
        lines.append(
            f'<polyline class="line {colour}{dashes}{best}" points="{points}"><title>{escaped(strand.title)}</title></polyline>'
        )
    inner = f'<svg width="100%" height="{height}" viewBox="0 0 1000 {height}" preserveAspectRatio="none">{"".join(lines)}</svg>'
    drawn = [inner, *crosses]
    for index, (place, (name, axis)) in enumerate(zip(places, axes.items(), strict=False)):
        drawn.append(_axis(place / 10, names[name][0], index, [(up(share), words) for share, words in axis.ticks], top, bottom))
    marks = [(up((value - scale[0]) / (scale[-1] - scale[0])), shown(value)) for value in scale]
    if len(values) < len(strands):
        marks.append((none, "no value"))
    drawn.append(_axis(100, metric, len(names), marks, top, bottom, last=True))
    return charts.svg(title, height, "".join(drawn))


def _axis(
    x: float, name: str, index: int, marks: Sequence[tuple[float, str]], top: int, bottom: int, *, last: bool = False
) -> str:
    """A vertical axis with its name, every second one a line higher, and its values beside it."""
    anchor = "end" if last else "start" if index == 0 else "middle"
    drawn = [
        f'<line class="axis" x1="{x:.2f}%" x2="{x:.2f}%" y1="{top - 6}" y2="{bottom + 6}"/>',
        f'<text class="halo name" x="{x:.2f}%" y="{12 if index % 2 else 28}" text-anchor="{anchor}">{escaped(name)}</text>',
    ]
    for y, words in marks:
        side = 'dx="10"' if last else 'dx="-6" text-anchor="end"'
        drawn.append(f'<text class="halo" x="{x:.2f}%" y="{y:.1f}" dy="4" {side}>{escaped(words)}</text>')
    return "".join(drawn)


def shade_key(index: int) -> str:
    """A short line of a colour, for the legend."""
    return charts.swatch(f"q{index}")
