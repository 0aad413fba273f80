"""How a sweep's report writes numbers, settings and configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrl.report import svg
from medrl.report.charts import Dot
from medrl.sweep.report.effects import show
from medrl.sweep.report.results import Configuration

SHARES = {"accuracy", "unparsed", "truncated", "ungraded", "first_choice"}
"""Last parts of metrics that are shares of 1 and written in per cent."""

MINUS = "\N{MINUS SIGN}"


class Unit:
    """Writes a metric's values: accuracies in per cent and their differences in points, others as they are."""

    def __init__(self, metric: str) -> None:
        self.share = metric.rsplit("/", 1)[-1] in SHARES
        self.name = f"{metric}, %" if self.share else metric
        self.column = self.name.rsplit("/", 1)[-1]
        self.difference_name = "Difference, points" if self.share else "Difference"

    def show(self, value: float) -> str:
        """A value."""
        return f"{100 * value:.1f}".replace("-", MINUS) if self.share else svg.number(value)

    def scaled(self, value: float) -> str:
        """A value of a chart, which has per cent for shares."""
        return f"{value:.1f}" if self.share else svg.number(value)

    def dot(self, value: float, ci95: Sequence[float] | None) -> Dot:
        """A value with its interval in a chart."""
        if not self.share:
            return Dot(value, ci95)
        return Dot(100 * value, ci95 and [100 * min(1.0, max(0.0, end)) for end in ci95])

    def with_unit(self, value: float) -> str:
        """A value in a sentence."""
        return f"{self.show(value)} %" if self.share else self.show(value)

    def difference(self, value: float) -> str:
        """A signed difference."""
        return (f"{100 * value:+.1f}" if self.share else f"{value:+.3g}").replace("-", MINUS)

    def spread(self, value: float) -> str:
        """An unsigned difference with its unit, for a sentence."""
        return f"{100 * value:.1f} points" if self.share else svg.number(value)

    def interval(self, ci95: Sequence[float] | None, nothing: str = "none", *, signed: bool = False) -> str:
        """An interval of values, or of differences. That of a share ends where shares do, as a mean of seeds need not."""
        if ci95 is None:
            return nothing
        if self.share and not signed:
            ci95 = [min(1.0, max(0.0, end)) for end in ci95]
        return f"[{', '.join(self.difference(end) if signed else self.show(end) for end in ci95)}]"


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Parameters by the fewest last parts of their paths that no other shares."""
    found = {}
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            end = parts[-length:]
            if length == len(parts) or not any(other.split(".")[-length:] == end for other in names if other != name):
                found[name] = ".".join(end)
                break
    return found


def settings(parameters: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A configuration's parameters, in the order of the file."""
    return ", ".join(f"{word} = {show(parameters[name])}" for name, word in names.items() if name in parameters)


def seeds(count: int) -> str:
    """How many."""
    return "1 seed" if count == 1 else f"{count} seeds"


def p_value(value: float | None) -> str:
    """Never 0; a dash where nothing was tested."""
    return "\N{EN DASH}" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def labels(configurations: Sequence[Configuration]) -> str:
    """Their labels as a list."""
    return ", ".join(each.label for each in configurations)
