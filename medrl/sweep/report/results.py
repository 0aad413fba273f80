"""The results of a sweep: its finished points, and the configurations whose seeds they are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medrl.errors import UserError
from medrl.table.results import SCHEMA

SEED = "seed"
"""The parameter whose values are replicates of one configuration."""

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

    @property
    def points(self) -> tuple[Point, ...]:
        """All finished points."""
        return tuple(point for configuration in self.configurations for point in configuration.points)

    @property
    def balanced(self) -> bool:
        """Whether values were combined by design, so that points can be matched."""
        return self.method == "grid"

    @property
    def seeds(self) -> int:
        """Most seeds that a configuration finished."""
        return max((len(configuration.by_seed()) for configuration in self.configurations), default=0)

    def better(self, one: float, other: float) -> bool:
        """Whether the first value is strictly better."""
        return one > other if self.maximise else one < other

    def best(self) -> Configuration | None:
        """Of the best mean; the first of equals."""
        found: Configuration | None = None
        for configuration in self.configurations:
            if found is None or self.better(configuration.mean, found.mean):
                found = configuration
        return found

    def of(self, parameters: Mapping[str, Any]) -> Configuration | None:
        """The configuration of these parameters, of which the seed does not count."""
        asked = _without_seed(parameters)
        return next((each for each in self.configurations if key(each.parameters) == key(asked)), None)

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
        seen = {key(each.parameters[name]): each.parameters[name] for each in self.configurations if name in each.parameters}
        listed = [key(value) for value in self.parameters.get(name, {}).get("values", [])]
        ordered = [place for place in dict.fromkeys(listed) if place in seen]
        rest = [seen[place] for place in seen if place not in ordered]
        return [seen[place] for place in ordered] + (sorted(rest) if numeric(rest) else rest)


def read(results: Mapping[str, Any]) -> Sweep:
    """The finished points of a sweep's results.

    Raises:
        UserError: results of another schema or kind, or without a part that every sweep writes.
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
    parameters = {name: spec for name, spec in swept["parameters"].items() if name != SEED}
    groups: dict[str, list[Point]] = {}
    for point in swept["points"]:
        value = number_or_none(point.get("value"))
        if point["state"] == "finished" and value is not None:
            found = _point(point, value)
            groups.setdefault(key(found.parameters), []).append(found)
    configurations = tuple(
        Configuration(f"C{index}", points[0].parameters, tuple(points)) for index, points in enumerate(groups.values(), start=1)
    )
    goal = swept["metric"].get("goal", "minimize")  # W&B's own default
    return Sweep(swept["metric"]["name"], goal == "maximize", swept["method"], parameters, configurations, tuple(swept["points"]))


def _point(point: Mapping[str, Any], value: float) -> Point:
    costs = {kind: cost for kind in ("tokens", "seconds") if (cost := number_or_none(point.get(kind))) is not None}
    return Point(point["number"], _without_seed(point["parameters"]), point["parameters"].get(SEED), value, costs)


def _without_seed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sorted(parameters.items()) if name != SEED}


def number_or_none(value: Any) -> float | None:
    """A finite number; None for anything else, as a diverged loss is."""
    counts = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if counts else None


def key(value: Any) -> str:
    """By what values are told apart, lists and mappings among them."""
    return json.dumps(value, sort_keys=True, default=str)


def numeric(values: Sequence[Any]) -> bool:
    """Whether all values are numbers, and not merely named by words or switched on and off."""
    return bool(values) and all(number_or_none(value) is not None for value in values)
