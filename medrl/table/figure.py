"""A table as a figure for a paper, PDF and SVG by matplotlib: each number with both of its intervals, and gain minus placebo."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import accumulate, groupby
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.errors import UserError
from medrl.report import phrases
from medrl.report.phrases import CHECKPOINT, RECIPE
from medrl.safe_text import printable
from medrl.statistics.metrics import Interval
from medrl.statistics.paired import READINGS
from medrl.table import placebos
from medrl.table.join import Comparison
from medrl.table.rows import READABLE, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL, TITLE = 44, 100
"""Characters of a line."""
INCHES_A_LINE, WIDTH = 0.19, 7.2
LOOKS = {
    # Marker, whether it is filled, colour: Okabe and Ito's, which are told apart without red and green.
    "published": ("D", False, "#000000"),
    "reference": ("x", True, "#7f7f7f"),
    "before": ("o", True, "#999999"),
    "earlier": ("o", True, "#56b4e9"),
    "measured": ("o", True, "#0072b2"),
    "compat": ("o", False, "#0072b2"),
    "placebo": ("s", True, "#d55e00"),
}
KINDS = {
    "published": "published",
    "before": "before training",
    "measured": "after training",
    "compat": "the same answers, graded otherwise",
    "reference": "without a model",
    "placebo": "gain minus placebo",
}
"""What the legend calls them; `earlier` rows say themselves what they are."""
CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "SimHei",
)
"""Fonts that have Chinese characters; matplotlib's own has none."""


class Point(NamedTuple):
    """A line of a panel."""

    who: str
    reading: str
    """Nothing for the strict one."""
    about: str
    look: str
    value: float
    checkpoint: Interval | None
    recipe: Interval | None

    @property
    def label(self) -> str:
        who = ", ".join(filter(None, (self.who, self.reading)))
        return _text(f"{who} ({self.about})" if self.about else who, LABEL)


def draw(comparison: Comparison, name: str, folder: Path) -> list[Path]:
    """Write ``NAME.pdf`` and ``NAME.svg``, the same bytes for the same numbers.

    Args:
        comparison: The table.
        name: Of the files, and the title where the table has none.
        folder: Where they are written.

    Raises:
        UserError: matplotlib is missing, or the table has no number.
    """
    if not find_spec("matplotlib"):
        raise UserError("--figure draws with matplotlib, which is not installed: pip install 'medrl[figures]'.")
    panels = [*_numbers(comparison), *_placebos(comparison)]
    if not panels:
        raise UserError(f"{name} has no number yet, published or measured, and so there is no figure.")
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and names of its parts are not drawn by lot.
    fonts = _fonts()
    look = {"svg.fonttype": "none", "svg.hashsalt": name, "pdf.fonttype": 42, "font.size": 8, "font.family": fonts}
    with matplotlib.rc_context(look), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # said in a sentence, once
        heights = [sum(map(_lines, points)) + 2.5 for _, points in panels]
        figure = Figure(figsize=(WIDTH, INCHES_A_LINE * (sum(heights) + 7)), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for place, (unit, points) in zip(axes, panels, strict=True):
            _panel(place, unit, points)
        figure.suptitle(_text(comparison.setting.title or name, TITLE), x=0.01, ha="left", fontsize=9, parse_math=False)
        _legend(figure, {each.look for _, points in panels for each in points}, _text(_caption(comparison), TITLE + 10))
        found = []
        for ending, dated in (("pdf", "CreationDate"), ("svg", "Date")):
            found.append(folder / f"{name}.{ending}")
            figure.savefig(found[-1], metadata={dated: None})
    if len(fonts) == 1 and any("\u4e00" <= letter <= "\u9fff" for _, points in panels for each in points for letter in each.who):
        print(f"medrl: no font here has Chinese characters, which are boxes in {found[0]}; install {CHINESE[0]}", file=sys.stderr)
    return found


def _fonts() -> list[str]:
    """Matplotlib's own font, and one for Chinese where there is one."""
    from matplotlib.font_manager import get_font_names

    return ["DejaVu Sans", *[font for font in CHINESE if font in get_font_names()][:1]]


def _lines(point: Point) -> float:
    """The height of a number in its panel, in lines."""
    return point.label.count("\n") + 1.3


def _numbers(comparison: Comparison) -> Iterator[tuple[str, list[Point]]]:
    """A panel a task and metric: the unit of its axis, and the numbers in the order of the table."""
    for (task, metric), rows in groupby(comparison.rows, lambda row: (row.task, row.metric)):
        own = list(rows)
        scale = 100 if own[0].percent else 1
        unit = f"{task}: {metric.replace('_', ' ')}{', %' if own[0].percent else ''}"
        yield unit, _once(_point(row, scale) for row in own)


def _point(row: Row, scale: float) -> Point:
    asked = "" if row.asked["n"] is None else f"n={phrases.asked(row.asked)}"
    about = ", ".join(filter(None, (asked, _seeds(row.seeds))))
    reading = READABLE if row.asked.get("scorer") == "readable" else ""
    found = row.uncertainty
    ends = _scaled(found.checkpoint, scale), _scaled(found.recipe, scale)
    return Point(row.who.removesuffix(f", {READABLE}"), reading, about, row.kind, scale * row.value, *ends)


def _placebos(comparison: Comparison) -> Iterator[tuple[str, list[Point]]]:
    """Gain minus placebo of all configurations, in points."""
    points = []
    for arm in placebos.arms(comparison.records):
        who = f"{arm.run['name']} {arm.run['family']}, {arm.name}, minus {arm.control}"
        for reading in arm.read():
            above = arm.above(reading)
            ends = (_scaled(each, 100) for each in above[2:])
            read = "" if reading == READINGS[0] else READABLE
            points.append(Point(who, read, _seeds(arm.seeds), "placebo", 100 * above.mean, *ends))
    if points:
        yield "gain minus placebo, points", _once(points)


def _once(points: Iterable[Point]) -> list[Point]:
    """Points without those of the second reading that are no other than those of the first."""
    found: list[Point] = []
    for each in points:
        if each.reading == READABLE and found and found[-1][4:] == each[4:]:
            found[-1] = found[-1]._replace(reading="both readings")
        else:
            found.append(each)
    return found


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""


def _panel(axes: Axes, unit: str, points: Sequence[Point]) -> None:
    """Numbers from top to bottom, the interval of the checkpoint thick, that of the recipe thin."""
    ends_at = list(accumulate(map(_lines, points)))
    places = [end - _lines(each) / 2 for end, each in zip(ends_at, points, strict=True)]
    for place, each in zip(places, points, strict=True):
        marker, filled, colour = LOOKS[each.look]
        for ends, width in ((each.recipe, 0.8), (each.checkpoint, 2.2)):
            if ends:
                axes.plot(ends, (place, place), color=colour, linewidth=width, solid_capstyle="butt", zorder=1)
        face = colour if filled else "white"
        axes.plot(each.value, place, marker, color=colour, markerfacecolor=face, markersize=4.5, zorder=2)
    if any(each.look == "placebo" for each in points):
        axes.axvline(0, color="#000000", linewidth=0.6, linestyle=":")
    if unit.endswith("perplexity"):
        axes.set_xscale("log")
    axes.set_yticks(places, [each.label for each in points], parse_math=False)
    axes.set_ylim(ends_at[-1], 0)
    axes.set_title(unit, loc="left", fontsize=8, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.3, color="#cccccc")
    axes.set_axisbelow(True)


def _legend(figure: Any, looks: set[str], caption: str) -> None:
    """The caption, and what markers and lines mean, those that there are."""
    from matplotlib.lines import Line2D

    shown = []
    for look, said in KINDS.items():
        if look in looks:
            marker, filled, colour = LOOKS[look]
            style: dict[str, Any] = {"color": colour, "markerfacecolor": colour if filled else "white", "markersize": 4.5}
            shown.append(Line2D([], [], marker=marker, linestyle="none", label=said, **style))
    for width, said in ((2.2, CHECKPOINT), (0.8, RECIPE)):
        shown.append(Line2D([], [], color="#444444", linewidth=width, label=f"95 %, {said}"))
    options = {"title": caption, "title_fontsize": 7, "alignment": "left", "frameon": False, "fontsize": 7}
    figure.legend(handles=shown, loc="outside lower left", ncols=3, **options).get_title().set_parse_math(False)


def _caption(comparison: Comparison) -> str:
    """What the numbers are worth: where the rows came from, and who is published."""
    said = [f"Rows: {comparison.source}."]
    sources = dict.fromkeys(row.published.source for row in comparison.rows if row.published)
    if sources:
        said.append(f"Published: {'; '.join(sources)}.")
    return " ".join(said)


def _scaled(ends: Interval | None, scale: float) -> Interval | None:
    return ends and Interval(scale * ends.low, scale * ends.high)


def _text(text: str, width: int) -> str:
    return fill(printable(text), width)
