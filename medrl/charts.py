"""How the report looks: its style sheet, text made safe, and inline SVG of curves over steps and of intervals.

Horizontal places in a chart are percentages and vertical ones pixels, so that it fills its column and its words keep their size.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Point = tuple[float, float]
"""Step and value."""

LINE_POINTS = 240
"""Most points of a drawn line: more than a column of a screen can show, few enough for a small file."""

CURVES = {
    "reward": "Reward, weighted sum",
    "loss": "Loss",
    "eval_loss": "Loss on held-out rows",
    "mean_token_accuracy": "Tokens predicted right, share",
    "rewards/accuracies": "Chosen preferred over rejected, share",
    "rewards/margins": "Margin of chosen over rejected",
    "rewards/chosen": "Implicit reward of chosen",
    "rewards/rejected": "Implicit reward of rejected",
    "accuracy": "Chosen scored above rejected, share",
    "margin": "Margin of chosen over rejected",
    "reward_std": "Standard deviation of the reward",
    "frac_reward_zero_std": "Groups whose rewards are all equal, share",
    "completions/mean_length": "Length of a completion, tokens",
    "completions/clipped_ratio": "Completions cut at the limit, share",
    "entropy": "Entropy of a token, nats",
    "kl": "Distance from the reference model (KL)",
    "clip_ratio/region_mean": "Tokens clipped in the update, share",
    "grad_norm": "Norm of the gradient",
    "learning_rate": "Learning rate",
}
"""Curves that are drawn where a log holds them, in this order."""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfcf9; --panel: #f5f3ed; --ink: #1d1d1b; --quiet: #66635c; --rule: #dfdbd2;
  --accent: #0b6077; --base: #86827a; --serif: Charter, "Bitstream Charter", "Source Serif 4", Cambria, Georgia, serif;
  --sans: "Source Sans 3", "Segoe UI", system-ui, -apple-system, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  --s0: #0b6077; --s1: #b3541e; --s2: #6b4a9b; --s3: #4b7a2a; --s4: #a8355c; --s5: #8a6a00; --s6: #3d62b0; --s7: #5d5a55; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16171a; --panel: #1e2024; --ink: #e6e3dc; --quiet: #a5a199;
  --rule: #34363b; --accent: #70c1d6; --base: #97938a;
  --s0: #70c1d6; --s1: #e59866; --s2: #b79be0; --s3: #9cc66f; --s4: #e58aa8; --s5: #d6b656; --s6: #8fb0ee; --s7: #b5b1a8; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 2rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 var(--serif); font-variant-numeric: lining-nums; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { font-size: 1.9rem; font-weight: 600; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; font-weight: 600; margin: 3.5rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; font-weight: 600; margin: 2.5rem 0 .25rem; }
p { margin: .5rem 0 1rem; max-width: 44rem; }
.first { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1.25rem; }
.first p { margin: 0; font: 14px/1.4 var(--sans); color: var(--quiet); }
.first .banner { background: var(--ink); color: var(--paper); border-radius: 3px; padding: .35rem .7rem; }
nav { margin: 1.5rem 0 0; font: 14px/1.5 var(--sans); }
nav a { display: inline-block; margin-right: 1.25rem; color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.about { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .7rem 2rem; margin: 1.5rem 0 0;
  padding: 1rem 0; border: solid var(--rule); border-width: 1px 0; font: 13px/1.45 var(--sans); }
.about dt { color: var(--quiet); } .about dd { margin: 0; overflow-wrap: anywhere; } .about .wide { grid-column: 1 / -1; }
figure { margin: 1.5rem 0 2.5rem; } .scroll { overflow-x: auto; }
figcaption, caption { font: 13px/1.5 var(--sans); color: var(--quiet); text-align: left; max-width: 48rem; padding: 0 0 .75rem; }
body { counter-reset: figure; } .numbered { counter-increment: figure; }
.numbered::before { content: "Figure " counter(figure) ". "; color: var(--ink); font-weight: 700; }
figcaption b, caption b { color: var(--ink); }
table { border-collapse: collapse; width: 100%; font: 14px/1.4 var(--sans); font-variant-numeric: tabular-nums; }
thead th, tbody:last-child tr:last-child > * { border-bottom: 1px solid var(--quiet); }
thead th { border-top: 1.5px solid var(--ink); font-weight: 600; vertical-align: bottom; }
th, td { padding: .3rem 0 .3rem 1.25rem; text-align: right; white-space: nowrap; font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; white-space: normal; } td.left, th.left { text-align: left; }
tbody .task th { padding-top: 1rem; font-weight: 600; }
tbody .task span { font-weight: 400; color: var(--quiet); margin-left: .6rem; }
tbody + tbody .task > * { border-top: 1px solid var(--rule); } tr.strong > * { color: var(--accent); font-weight: 600; }
tr.quiet > * { color: var(--quiet); } tr.change > * { font-weight: 600; } tr.change td.left { font-weight: 400; }
.plot { min-width: 9rem; width: 30%; padding-right: 6px; }
.key { display: inline-flex; align-items: center; overflow-wrap: anywhere; vertical-align: bottom; }
.swatch { flex: none; margin-right: .35rem; } .swatch line { stroke-width: 2; }
.swatch .mark { stroke: var(--ink); stroke-width: 1.25; }
.dot { display: inline-block; width: .62em; height: .62em; border: 1.75px solid var(--base); border-radius: 50%; }
.dot.full { background: var(--accent); border-color: var(--accent); }
.axis-left { padding-left: 3rem; } .axis-both { padding: 0 .5rem; }
.pair { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 4fr); gap: 1rem 2.5rem; align-items: center; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 2rem 2.25rem; }
.grid figure { margin: 0; break-inside: avoid; } .grid figcaption { padding-bottom: .8rem; line-height: 1.4; }
.grid figcaption b { display: block; } .ends { font-variant-numeric: tabular-nums; }
.sample { margin: 1.25rem 0 2rem; }
.sample > p { font: 14px/1.5 var(--sans); margin: 0 0 .4rem; max-width: none; }
.sample code, .about code { font: .92em var(--mono); } .kind { color: var(--accent); font-weight: 600; }
.texts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: .75rem 1.25rem; }
.texts h4, details h4 { font: 13px/1.5 var(--sans); margin: .25rem 0; color: var(--quiet); } .texts h4 b { color: var(--ink); }
pre { margin: 0; padding: .75rem .9rem; background: var(--panel); border-radius: 3px; font: 12.5px/1.55 var(--mono);
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.more { color: var(--accent); font-style: italic; }
summary { cursor: pointer; font: 14px/1.6 var(--sans); color: var(--accent); } details { margin: .35rem 0 .75rem; }
footer { margin-top: 3.5rem; border-top: 1px solid var(--rule); padding-top: 1rem; color: var(--quiet);
  font: 13px/1.5 var(--sans); }
@media (max-width: 44rem) { body { padding: 1.5rem 1rem 3rem; } h1 { font-size: 1.5rem; }
  .pair { grid-template-columns: 1fr; } .about { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
  table { font-size: 12px; } th, td { padding-left: .35rem; } thead th, td.left { white-space: normal; }
  .plot { min-width: 5rem; } }
@media print { :root { color-scheme: light; --paper: #fff; } body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; } .scroll { overflow: visible; } .pair { grid-template-columns: 1fr; } pre { font-size: 8.5pt; }
  h2, h3, h4, summary, figcaption, caption, .sample > p { break-after: avoid; }
  tr, .axis-left, .axis-both { break-inside: avoid; }
  details::details-content { content-visibility: visible; }
  svg, .dot, .banner, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
.chart { display: block; width: 100%; overflow: visible; font: 11px/1 var(--sans); font-variant-numeric: tabular-nums; }
.chart text { fill: var(--quiet); }
.chart .name { fill: var(--ink); font-size: 13px; font-weight: 600; }
.chart .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 5px; stroke-linejoin: round; }
.chart .grid { stroke: var(--rule); stroke-width: 1; shape-rendering: crispEdges; }
.chart .axis { stroke: var(--quiet); stroke-width: 1; shape-rendering: crispEdges; }
.chart .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.chart .raw { stroke-width: 1; opacity: .38; }
.chart .mark { stroke: var(--ink); stroke-width: 1.25; }
.chart .bar { stroke-width: 2; }
.m1 { stroke-dasharray: 4 3; } .m2 { stroke-dasharray: 1 3; } .m3 { stroke-dasharray: 7 2 1 2; }
.base { stroke: var(--base); fill: var(--base); } .trained { stroke: var(--accent); fill: var(--accent); }
.chart .of-trained { fill: var(--accent); font-weight: 600; }
.chart circle.base { fill: var(--paper); stroke-width: 1.75; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); }
.s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); } .s6 { stroke: var(--s6); } .s7 { stroke: var(--s7); }
circle.s0 { fill: var(--s0); } circle.s1 { fill: var(--s1); } circle.s2 { fill: var(--s2); } circle.s3 { fill: var(--s3); }
circle.s4 { fill: var(--s4); } circle.s5 { fill: var(--s5); } circle.s6 { fill: var(--s6); } circle.s7 { fill: var(--s7); }
"""


class Dot(NamedTuple):
    """An accuracy with its interval, all shares of 1."""

    kind: str
    """``base`` or ``trained``."""
    value: float
    low: float
    high: float


class Panel(NamedTuple):
    """What a forest plot says of one task."""

    name: str
    dots: Sequence[Dot]
    marks: Mapping[int, float]
    """Accuracies of the reference answers, by their place in the legend."""


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


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that enclose ``low`` and ``high``, ``most`` steps apart or fewer."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) / 2 or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    for step in (unit, 2 * unit, 2.5 * unit, 5 * unit, 10 * unit, 20 * unit):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [index * step for index in range(first, last + 1)]


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
    return text.replace("-", "\N{MINUS SIGN}")


def lines(title: str, curves: Sequence[Sequence[Point]], height: int = 120, *, raw: bool = True) -> str:
    """Curves over the same steps. ``raw`` draws every step faintly behind the running mean."""
    steps = [step for curve in curves for step, _ in curve]
    first, last = min(steps), max(steps)
    scale = _scale([value for curve in curves for _, value in (curve if raw else smoothed(curve))], height)
    bottom, top = scale[0], scale[-1]

    def across(step: float) -> float:
        return 50.0 if first == last else 100 * (step - first) / (last - first)

    def down(value: float) -> float:
        return height * (top - value) / (top - bottom)

    def path(curve: Sequence[Point], classes: str) -> str:
        places = " ".join(f"{10 * across(step):.1f},{down(value):.1f}" for step, value in thinned(curve))
        return f'<polyline class="line {classes}" points="{places}"/>'

    drawn, ends = [], []
    for index, curve in enumerate(curves):
        means = smoothed(curve)
        if raw and half_window(len(curve)):
            drawn.append(path(curve, f"raw s{index % 8}"))
        drawn.append(path(means, style(index)))
        ends.append(f'<circle class="s{index % 8}" cx="{across(means[-1][0]):.2f}%" cy="{down(means[-1][1]):.1f}" r="2.5"/>')
    inner = f'<svg width="100%" height="{height}" viewBox="0 0 1000 {height}" preserveAspectRatio="none">{"".join(drawn)}</svg>'
    frame = _value_axis(scale, down) + _step_axis(first, last, height)
    return _svg(title, height + 18, frame + inner + "".join(ends))


def style(index: int) -> str:
    """Classes of a curve: a colour and dashes, so that equal curves show through each other and print in grey."""
    return f"s{index % 8} m{(index + index // 8) % 4}"


def swatch(classes: str) -> str:
    """A short line for a legend; the words beside it say what it means."""
    line = f'<line class="{classes}" x1="1" x2="21" y1="4" y2="4"/>'
    return f'<svg class="swatch" width="22" height="8" aria-hidden="true">{line}</svg>'


def mark(index: int) -> str:
    """The vertical mark of a reference answer, for a legend."""
    line = f'<line class="mark m{index % 4}" x1="4" x2="4" y1="0" y2="14"/>'
    return f'<svg class="swatch" width="8" height="14" aria-hidden="true">{line}</svg>'


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


def _value_axis(scale: Sequence[float], down: Any) -> str:
    drawn = []
    for value in scale:
        drawn.append(f'<line class="grid" x1="0" x2="100%" y1="{down(value):.1f}" y2="{down(value):.1f}"/>')
        drawn.append(f'<text x="0" dx="-7" y="{down(value):.1f}" dy="4" text-anchor="end">{number(value)}</text>')
    return "".join(drawn)


def _step_axis(first: float, last: float, height: int) -> str:
    """First and last step, as words below the ends of the axis."""
    axis = f'<line class="axis" x1="0" x2="100%" y1="{height}" y2="{height}"/>'
    if first == last:
        return axis + f'<text x="50%" y="{height + 15}" text-anchor="middle">step {first:.0f}</text>'
    start = f'<text x="0" y="{height + 15}">step {first:.0f}</text>'
    return axis + start + f'<text x="100%" y="{height + 15}" text-anchor="end">{last:.0f}</text>'


def forest(title: str, panels: Sequence[Panel]) -> str:
    """Dots with interval bars on one axis from 0 to 100 %, a panel a task, with vertical marks for reference answers."""
    drawn, y = [], 0
    for panel in panels:
        body, tall = [], 14 * len(panel.dots) + 10
        for index, share in panel.marks.items():
            x = f"{100 * share:.2f}%"
            body.append(f'<line class="mark m{index % 4}" x1="{x}" x2="{x}" y1="{y + 24}" y2="{y + 24 + tall}"/>')
        for index, dot in enumerate(panel.dots):
            body.append(_dot(dot, y + 36 + 14 * index))
        drawn.append(f'<text class="name halo" x="0" y="{y + 14}">{escaped(panel.name)}</text>' + "".join(body))
        y += tall + 38
    grid = []
    for share in (0, 25, 50, 75, 100):
        anchor = {0: "start", 100: "end"}.get(share, "middle")
        grid.append(f'<line class="grid" x1="{share}%" x2="{share}%" y1="0" y2="{y}"/>')
        grid.append(f'<text x="{share}%" y="{y + 15}" text-anchor="{anchor}">{share}{" %" if share == 100 else ""}</text>')
    axis = f'<line class="axis" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
    return _svg(title, y + 18, "".join(grid) + axis + "".join(drawn))


def interval(title: str, dot: Dot) -> str:
    """One dot with its interval bar, for a row of a table; the axis is 0 to 100 %."""
    ends = "".join(f'<line class="grid" x1="{share}%" x2="{share}%" y1="0" y2="14"/>' for share in (0, 50, 100))
    return _svg(title, 14, ends + _bar(dot, 7))


def _bar(dot: Dot, y: int) -> str:
    low, value, high = (f"{100 * min(1.0, max(0.0, share)):.2f}%" for share in (dot.low, dot.value, dot.high))
    bar = f'<line class="bar {dot.kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
    return bar + f'<circle class="{dot.kind}" cx="{value}" cy="{y}" r="4"/>'


def _dot(dot: Dot, y: int) -> str:
    """A bar with its value beside it, on the side that has room."""
    right = dot.high < 0.88
    place = f'x="{100 * dot.high:.2f}%" dx="9"' if right else f'x="{100 * dot.low:.2f}%" dx="-9" text-anchor="end"'
    return _bar(dot, y) + f'<text class="halo of-{dot.kind}" {place} y="{y + 4}">{100 * dot.value:.1f}</text>'


def _svg(title: str, height: int, body: str) -> str:
    return f'<svg class="chart" height="{height}" role="img"><title>{escaped(title)}</title>{body}</svg>'


# Characters that a browser swallows, or that turn the order of what follows, are shown by number.
_CONTROLS = [*(code for code in range(0x20) if chr(code) not in "\n\t"), *range(0x7F, 0xA0)]
_TURNS = [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_UNSEEN = {code: f"\u2039U+{code:04X}\u203a" for code in _CONTROLS + _TURNS}


def escaped(value: Any) -> str:
    """Text that stays text in HTML, whatever it holds; half a character becomes a question mark."""
    text = str(value).replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8")
    return html.escape(text.translate(_UNSEEN))
