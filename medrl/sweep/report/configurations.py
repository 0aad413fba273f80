"""The results of a sweep: its finished points, and the configurations whose seeds they are."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from medrl.errors import UserError
from medrl.sweep.report.formatting import Unit, key, number_or_none, numeric, short_names, show
from medrl.sweep.selection import without_seed
from medrl.table.results import SCHEMA

NEEDED = ("metric", "method", "parameters", "points")


@dataclass(frozen=True)
class Point:
    """A run that finished with a number."""

    number: int
    """Its place in the sweep."""
    parameters: Mapping[str, Any]
    """What was varied, without the seed."""
    seed: Any
    """None where seeds were not varied."""
    value: float
    """Of the metric, in its own unit."""
    costs: Mapping[str, float]
    """``tokens`` and ``seconds``, where they are known."""


@dataclass(frozen=True)
class Configuration:
    """Points that differ in nothing but their seed."""

    label: str
    """C1, C2, ... in the order of their first points."""
    parameters: Mapping[str, Any]
    points: tuple[Point, ...]

    @property
    def mean(self) -> float:
        """Of the metric over the seeds."""
        return fmean(point.value for point in self.points)

    def cost(self, kind: str) -> float | None:
        """Mean over the seeds; None where one of them is unknown."""
        known = [point.costs[kind] for point in self.points if kind in point.costs]
        return fmean(known) if len(known) == len(self.points) else None

    def by_seed(self) -> dict[str, float]:
        """Value of each seed, by its key; what ran twice counts once, with its mean."""
        found: dict[str, list[float]] = {}
        for point in self.points:
            found.setdefault(key(point.seed), []).append(point.value)
        return {seed: fmean(values) for seed, values in found.items()}


@dataclass(frozen=True)
class Sweep:
    """A sweep as the statistics read it."""

    metric: str
    maximise: bool
    method: str
    """``grid``, ``random`` or ``bayes``."""
    parameters: Mapping[str, Mapping[str, Any]]
    """What the file says of each varied parameter, without the seed."""
    configurations: tuple[Configuration, ...]
    planned: tuple[Mapping[str, Any], ...]
    """Every point, finished or not, as the results hold it."""

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All finished points."""
        return tuple(point for configuration in self.configurations for point in configuration.points)

    @cached_property
    def unit(self) -> Unit:
        """How values of the metric are written."""
        return Unit(self.metric)

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names of the parameters."""
        return short_names(list(self.parameters))

    @property
    def balanced(self) -> bool:
        """Whether values were combined by design, so that points can be matched."""
        return self.method == "grid"

    @property
    def seeds(self) -> int:
        """Most seeds that a configuration finished."""
        return max((len(configuration.by_seed()) for configuration in self.configurations), default=0)

    @property
    def varied(self) -> list[str]:
        """Parameters with several values among finished points."""
        return [name for name in self.parameters if len(self.values(name)) > 1]

    @property
    def varied_pairs(self) -> list[tuple[str, str]]:
        """Every two of them."""
        return list(itertools.combinations(self.varied, 2))

    @property
    def sign(self) -> int:
        """By which values are multiplied so that the higher is the better."""
        return 1 if self.maximise else -1

    @property
    def ordered(self) -> list[Configuration]:
        """The best mean first, of equals the first."""
        return sorted(self.configurations, key=lambda each: -self.sign * each.mean)

    def priced(self, kind: str) -> list[tuple[float, Configuration]]:
        """Configurations whose cost is known, with it."""
        return [(cost, each) for each in self.configurations if (cost := each.cost(kind)) is not None]

    def command(self, configuration: Configuration) -> str:
        """What runs its first point."""
        first = next(point for point in self.planned if point["number"] == configuration.points[0].number)
        return shlex.join(["python", "-m", "medrl", *(first.get("words") or [])])

    def settings(self, configuration: Configuration) -> str:
        """A configuration's parameters, in the order of the file."""
        mine = configuration.parameters
        return ", ".join(f"{word} = {show(mine[name])}" for name, word in self.names.items() if name in mine)

    def having(self, name: str) -> list[Configuration]:
        """Configurations that have a parameter."""
        return [each for each in self.configurations if name in each.parameters]

    def of(self, parameters: Mapping[str, Any]) -> Configuration | None:
        """The configuration of these parameters, of which the seed does not count."""
        asked = key(without_seed(parameters))
        return next((each for each in self.configurations if key(each.parameters) == asked), None)

    def logarithmic(self, name: str) -> bool:
        """Whether a parameter is read on a logarithmic axis: as its distribution says, else where its values span much."""
        spec, values = self.parameters[name], [point["parameters"].get(name) for point in self.planned]
        numbers = [value for value in map(number_or_none, values) if value is not None]
        if not numbers or min(numbers) <= 0:
            return False
        if "values" in spec:
            return max(numbers) >= 30 * min(numbers)
        return "log" in str(spec.get("distribution", ""))

    def values(self, name: str) -> list[Any]:
        """Distinct values of a parameter among finished points, in the order of the file, else ascending."""
        finished = {key(each.parameters[name]): each.parameters[name] for each in self.having(name)}
        listed = dict.fromkeys(key(value) for value in self.parameters.get(name, {}).get("values", []))
        rest = [value for place, value in finished.items() if place not in listed]
        return [finished[place] for place in listed if place in finished] + (sorted(rest) if numeric(rest) else rest)


def read(results: Mapping[str, Any]) -> Sweep:
    """The finished points of a sweep's results. Raises `UserError` for results of another schema or kind, or without a part that
    every sweep writes.
    """
    schema, kind = results.get("schema"), results.get("kind")
    if schema != SCHEMA or kind != "sweep":
        raise UserError(
            f"These results have schema {schema!r} and kind {kind!r}; a sweep's report is made from schema {SCHEMA} and kind "
            "'sweep'. Run the sweep again with this version of medrl."
        )
    swept = results.get("sweep", {})
    if missing := [name for name in NEEDED if name not in swept]:
        raise UserError(f"The sweep's results lack {', '.join(missing)}; run the sweep again, it continues where it stands.")
    groups: dict[str, list[Point]] = {}
    for each in swept["points"]:
        value, parameters = number_or_none(each.get("value")), without_seed(each["parameters"])
        if each["state"] == "finished" and value is not None:
            costs = {kind: cost for kind in ("tokens", "seconds") if (cost := number_or_none(each.get(kind))) is not None}
            point = Point(each["number"], parameters, each["parameters"].get("seed"), value, costs)
            groups.setdefault(key(parameters), []).append(point)
    return Sweep(
        metric=swept["metric"]["name"],
        maximise=swept["metric"].get("goal", "minimize") == "maximize",  # W&B's own default
        method=swept["method"],
        parameters={name: spec for name, spec in swept["parameters"].items() if name != "seed"},
        configurations=tuple(
            Configuration(f"C{index}", points[0].parameters, tuple(points))
            for index, points in enumerate(groups.values(), start=1)
        ),
        planned=tuple(swept["points"]),
    )
