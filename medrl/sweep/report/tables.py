"""Drawings of a sweep's report, and those cells of its tables that take more than a line of a template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from medrl.report import charts
from medrl.report.charts import Panel, Spot
from medrl.statistics.metrics import over_seeds
from medrl.sweep.report import effects, noise
from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.effects import BY_VALUE, FEWEST, Contrast, Level, estimate
from medrl.sweep.report.formatting import Unit, key, number_or_none, numeric, p_value, show

COSTS = {"tokens": "Tokens of a run", "seconds": "Seconds of a run"}

Record = Mapping[str, Any]
Rows = list[list[str]]


def tested(sweep: Sweep, leader: Configuration, selected: Record | None, runs: Sequence[Record]) -> Rows:
    """What selected the best configuration beside what it reached on the test split; no rows where that was not asked."""
    asked = (selected or {}).get("test") or []
    runs = [run for run in runs if run.get("run_id") in asked and (run.get("eval") or {}).get("split") == "test"]
    mine = list(leader.by_seed().values())
    rows = [_seeds_row(f"{sweep.metric}, which selected it", mine, map(sweep.unit.show, mine), sweep.unit)]
    for name in dict.fromkeys([sweep.metric.split("/", 1)[-1], *(f"{task}/accuracy" for run in runs for task in run["tasks"])]):
        unit, (task, _, number) = Unit(name), name.partition("/")
        numbers, each = [], []
        for run in runs:
            parts = [(run.get(kind) or {}).get(task) or {} for kind in ("tasks", "perplexity")]
            value = next((value for part in parts if (value := number_or_none(part.get(number))) is not None), None)
            if value is None:
                continue
            of_rows = f" {unit.interval(parts[0].get('ci95'))}, n = {parts[0]['n']}" if "n" in parts[0] else ""
            numbers.append(value)
            each.append(f"seed {run.get('seed')}: {unit.show(value)}{of_rows if number == 'accuracy' else ''}")
        if numbers:
            rows.append(_seeds_row(f"test/{name}", numbers, each, unit))
    return rows if runs else []


def _seeds_row(label: str, values: Sequence[float], each: Iterable[str], unit: Unit) -> list[str]:
    mean, _, n, ci95 = over_seeds(values)
    return [label, str(n), unit.show(mean), unit.interval(ci95, "one seed: none"), "; ".join(each)]


def levels(sweep: Sweep) -> dict[str, list[Level]]:
    """Means at each value of each parameter that has one."""
    return {name: effects.levels(sweep, name) for name in sweep.parameters if sweep.values(name)}


def points_missing(found: Mapping[str, Sequence[Level]]) -> bool:
    """Whether some value of a parameter was measured more often than another."""
    return any(len({level.points for level in each}) > 1 for each in found.values())


def _scattered(sweep: Sweep, name: str) -> bool:
    """Whether a parameter took so many numbers that every configuration is drawn, and not means."""
    return len(values := sweep.values(name)) > BY_VALUE and numeric(values)


def means(sweep: Sweep) -> Iterator[Markup]:
    """A drawing of these means, where a parameter took few values."""
    panels = [
        Panel(f"{sweep.names[name]} = {level.label}", [sweep.unit.dot(level.mean, level.ci95)])
        for name, found in levels(sweep).items()
        if not _scattered(sweep, name)
        for level in found
    ]
    if panels:
        yield charts.forest("Mean at each value; the table below holds the numbers", panels, sweep.unit.scaled)


def scatters(sweep: Sweep) -> list[tuple[str, Markup]]:
    """A drawing of each parameter that took many numbers, with its name."""
    unit, found = sweep.unit, []
    for name in filter(lambda name: _scattered(sweep, name), sweep.parameters):
        spots = [
            Spot(float(value := each.parameters[name]), each.mean, f"{each.label}: {show(value)}, {unit.show(each.mean)}")
            for each in sweep.having(name)
        ]
        drawn = charts.scatter(f"{sweep.metric} over {name}", spots, unit.show, logarithmic=sweep.logarithmic(name))
        found.append((sweep.names[name], drawn))
    return found


def difference(each: Contrast, unit: Unit, matched: str = "pairs") -> list[str]:
    """The cells of a contrast after its name; ``matched`` is what its verdict calls what it matches."""
    pairs, of_seeds, claim = each.pairs, each.seeds, each.verdict.replace("pairs", matched)
    if not pairs.n:
        return ["0", "", "", "", "", claim]
    seeded = "one seed" if of_seeds.n < 2 else unit.interval(of_seeds.ci95, "no spread", signed=True)
    interval = unit.interval(pairs.ci95, "too few" if pairs.n < FEWEST else "no spread", signed=True)
    return [str(pairs.n), unit.difference(pairs.mean), interval, seeded, p_value(each.holm), claim]


def mean(each: Configuration, unit: Unit) -> list[str]:
    """The mean of a configuration, and its interval over seeds."""
    return [unit.show(each.mean), unit.interval(estimate(list(each.by_seed().values())).ci95)]


def readings(sweep: Sweep, runs: Sequence[Record]) -> dict[str, dict[str, str]]:
    """Mean accuracy of each configuration over its seeds, by column: every task that was answered, in both readings.

    On the rows that the sweep's metric was measured on; a configuration of which some run does not say it has an empty cell.
    """
    chosen_by = "validation" if sweep.metric.startswith("validation/") else "test"
    known = {run.get("run_id"): run["tasks"] for run in runs if (run.get("eval") or {}).get("split", "test") == chosen_by}
    ids = {each["number"]: each.get("run_id") for each in sweep.planned}
    found: dict[str, dict[str, str]] = {}
    tasks = dict.fromkeys(name for each in known.values() for name, task in each.items() if "readable" in task)
    for name in tasks:
        for each in sweep.configurations:
            here = [known.get(ids[point.number], {}).get(name, {}) for point in each.points]
            if all("readable" in task for task in here):
                for reading, parts in {"strict": here, "readable": [task["readable"] for task in here]}.items():
                    shown = f"{100 * fmean(part['accuracy'] for part in parts):.1f}"
                    found.setdefault(f"{name}, {reading}, %", {})[each.label] = shown
    return found


def heat(sweep: Sweep, one: str, two: str) -> tuple[Rows, list[list[int]]]:
    """Mean and count of each cell of two parameters, and its shade, the darker the higher."""
    cells: dict[tuple[str, str], list[float]] = {}
    for point in sweep.points:
        if one in point.parameters and two in point.parameters:
            cells.setdefault((key(point.parameters[one]), key(point.parameters[two])), []).append(point.value)
    means = {place: fmean(values) for place, values in cells.items()}
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    rows, shades = [], []
    for value in sweep.values(one):
        places = [(key(value), key(other)) for other in sweep.values(two)]
        shown = [f"{sweep.unit.show(means[place])} (n = {len(cells[place])})" if place in means else "none" for place in places]
        rows.append([show(value), *shown])
        shares = [(means[place] - low) / (high - low) if place in means and high > low else 0 for place in places]
        shades.append([round(10 * share) for share in shares])
    return rows, shades


def costs_known(sweep: Sweep) -> list[str]:
    """Kinds of cost that some configuration has."""
    return [kind for kind in COSTS if any(cost for cost, _ in sweep.priced(kind))]


def against_cost(sweep: Sweep, kind: str) -> Markup:
    """A drawing of every configuration against a cost."""
    unit, best, spots = sweep.unit, [each for _, each in noise.frontier(sweep, kind)], []
    for cost, each in sorted(sweep.priced(kind), key=lambda pair: pair[0]):
        full, title = each in best, f"{each.label}: {unit.show(each.mean)}, {cost:,.0f} {kind}"
        spots.append(Spot(cost, each.mean, title, full, each.label if full else ""))
    return charts.scatter(f"{sweep.metric} against {kind}", spots, unit.show, COSTS[kind], joined=True)


def validation_rows(sweep: Sweep, runs: Sequence[Record]) -> set[int]:
    """On how many rows the runs measured an accuracy that was optimized; none for another metric."""
    task, _, number = sweep.metric.partition("/")[2].partition("/")
    asked = [run for run in runs if (run.get("eval") or {}).get("split") == "validation"] if number == "accuracy" else []
    found = ((run.get("tasks") or {}).get(task) or {} for run in asked)
    return {about["n"] for about in found if "n" in about}
