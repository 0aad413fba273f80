"""Inline SVG of the report: curves over steps and intervals; and text made safe for HTML.

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
    "answers/right": "Answers right, share",
    "answers/unparsed": "Answers unparsed, share",
    "answers/ungraded": "Answers that the judge left ungraded, share",
    "answers/first_choice": "Answers that name the choice shown first, share",
    "reward_std": "Standard deviation of the reward",
    "frac_reward_zero_std": "Groups whose rewards are all equal, share",
    "completions/mean_length": "Length of a completion, tokens",
    "completions/clipped_ratio": "Completions cut at the limit, share",
    "entropy": "Entropy of a token, nats",
    "kl": "Distance from the reference model (KL)",
    "clip_ratio/region_mean": "Tokens clipped in the update, share",
    "clip_fraction": "Tokens clipped in the update, share",
    "resampled_groups": "Groups replaced because they taught nothing",
    "policy_loss": "Loss of the policy",
    "value_loss": "Loss of the value head",
    "explained_variance": "Variance of the returns that the value head explains, share",
    "grad_norm": "Norm of the gradient",
    "learning_rate": "Learning rate",
}
"""Curves that are drawn where a log holds them, in this order."""

RARE = {"answers/ungraded"}
"""Curves that are drawn only where they leave zero."""


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
    return svg(title, height + 18, frame + inner + "".join(ends))


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
    """Lines and numbers of the vertical axis; ``down`` turns a value into pixels."""
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
    return svg(title, y + 18, "".join(grid) + axis + "".join(drawn))


def interval(title: str, dot: Dot) -> str:
    """One dot with its interval bar, for a row of a table; the axis is 0 to 100 %."""
    ends = "".join(f'<line class="grid" x1="{share}%" x2="{share}%" y1="0" y2="14"/>' for share in (0, 50, 100))
    return svg(title, 14, ends + _bar(dot, 7))


def _bar(dot: Dot, y: int) -> str:
    low, value, high = (f"{100 * min(1.0, max(0.0, share)):.2f}%" for share in (dot.low, dot.value, dot.high))
    bar = f'<line class="bar {dot.kind}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
    return bar + f'<circle class="{dot.kind}" cx="{value}" cy="{y}" r="4"/>'


def _dot(dot: Dot, y: int) -> str:
    """A bar with its value beside it, on the side that has room."""
    right = dot.high < 0.88
    place = f'x="{100 * dot.high:.2f}%" dx="9"' if right else f'x="{100 * dot.low:.2f}%" dx="-9" text-anchor="end"'
    return _bar(dot, y) + f'<text class="halo of-{dot.kind}" {place} y="{y + 4}">{100 * dot.value:.1f}</text>'


def svg(title: str, height: int, body: str) -> str:
    """A chart as wide as its column, with a title for who cannot see it."""
    return f'<svg class="chart" height="{height}" role="img"><title>{escaped(title)}</title>{body}</svg>'


# Characters that a browser swallows, or that turn the order of what follows, are shown by number.
_CONTROLS = [*(code for code in range(0x20) if chr(code) not in "\n\t"), *range(0x7F, 0xA0)]
_TURNS = [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_UNSEEN = {code: f"\u2039U+{code:04X}\u203a" for code in _CONTROLS + _TURNS}


def visible(value: Any) -> str:
    """Text whose every character can be seen; half a character becomes a question mark."""
    return str(value).replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8").translate(_UNSEEN)


def escaped(value: Any) -> str:
    """Text that stays text in HTML, whatever it holds."""
    return html.escape(visible(value))
