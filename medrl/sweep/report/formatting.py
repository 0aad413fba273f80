"""How a sweep's report writes numbers, values of parameters and their names."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from medrl.report.charts import Dot
from medrl.report.html import MINUS, number

SHARES = {"accuracy", "unparsed", "truncated", "ungraded", "first_choice"}
"""Last parts of metrics that are shares of 1 and written in per cent."""


class Unit:
    """Writes a metric's values: accuracies in per cent and their differences in points, others as they are."""

    def __init__(self, metric: str) -> None:
        self.share = metric.rsplit("/", 1)[-1] in SHARES
        self.name = f"{metric}, %" if self.share else metric
        self.column = self.name.rsplit("/", 1)[-1]
        self.difference_name = "Difference, points" if self.share else "Difference"

    def show(self, value: float) -> str:
        """A value."""
        return f"{100 * value:.1f}".replace("-", MINUS) if self.share else number(value)

    def possible(self, ci95: Sequence[float] | None) -> Sequence[float] | None:
        """An interval; that of a share ends where shares do, as that of a mean of seeds need not."""
        return [min(1.0, max(0.0, end)) for end in ci95] if ci95 and self.share else ci95

    def scaled(self, value: float) -> str:
        """A value of a chart, which has per cent for shares."""
        return f"{value:.1f}" if self.share else number(value)

    def dot(self, value: float, ci95: Sequence[float] | None) -> Dot:
        """A value with its interval in a chart."""
        ends, scale = self.possible(ci95), 100 if self.share else 1
        return Dot(scale * value, ends and [scale * end for end in ends])

    def difference(self, value: float) -> str:
        """A signed difference."""
        return (f"{100 * value:+.1f}" if self.share else f"{value:+.3g}").replace("-", MINUS)

    def spread(self, value: float) -> str:
        """An unsigned difference with its unit, for a sentence."""
        return f"{100 * value:.1f} points" if self.share else number(value)

    def interval(self, ci95: Sequence[float] | None, nothing: str = "none", *, signed: bool = False) -> str:
        """An interval of values, or of differences."""
        if signed:
            return f"[{', '.join(map(self.difference, ci95))}]" if ci95 else nothing
        ends = self.possible(ci95)
        return f"[{', '.join(map(self.show, ends))}]" if ends else nothing


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Parameters by the fewest last parts of their paths that no other shares."""
    ends = {name: [".".join(name.split(".")[start:]) for start in reversed(range(name.count(".") + 1))] for name in names}
    return {
        name: next((end for end in mine if not any(end in others for other, others in ends.items() if other != name)), name)
        for name, mine in ends.items()
    }


def seeds(count: int) -> str:
    """How many."""
    return "1 seed" if count == 1 else f"{count} seeds"


def p_value(value: float | None) -> str:
    """Never 0; a dash where nothing was tested."""
    return "\N{EN DASH}" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def show(value: Any) -> str:
    """A parameter's value as one would write it on the command line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else key(value)


def key(value: Any) -> str:
    """By what values are told apart, lists and mappings among them."""
    return json.dumps(value, sort_keys=True, default=str)


def number_or_none(value: Any) -> float | None:
    """A finite number; None for anything else, as a diverged loss is."""
    counts = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if counts else None


def numeric(values: Sequence[Any]) -> bool:
    """Whether all values are numbers, and not merely named by words or switched on and off."""
    return bool(values) and all(number_or_none(value) is not None for value in values)
