"""What the tables and drawings of a sweep's report hold; its templates have their captions and heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from medrl.report import charts
from medrl.report.charts import Panel, Spot
from medrl.report.html import MINUS
from medrl.statistics.metrics import over_seeds
from medrl.sweep.report import effects, noise
from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.effects import BY_VALUE, FEWEST, Contrast, Level, estimate
from medrl.sweep.report.formatting import Unit, key, number_or_none, numeric, p_value, seeds, show
from medrl.sweep.report.noise import Rival

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


def rivals(sweep: Sweep, found: Sequence[Rival]) -> Rows:
    """The best configuration against the others."""
    unit, rows = sweep.unit, []
    for rival in found:
        how = f"paired, {rival.paired} seeds" if rival.paired else "no test" if rival.p_value is None else "pooled spread"
        numbers = [unit.difference(rival.difference), unit.interval(rival.ci95, signed=True), p_value(rival.corrected)]
        other, answer = rival.configuration, "yes" if rival.significant else "no"
        rows.append([other.label, sweep.settings(other), *numbers, how, answer])
    return rows


def levels(sweep: Sweep) -> Rows:
    """Means at each value of each parameter."""
    return [
        [name, each.label, sweep.unit.show(each.mean), sweep.unit.interval(each.ci95), str(each.configurations), str(each.points)]
        for name, found in _levels(sweep).items()
        for each in found
    ]


def _levels(sweep: Sweep) -> dict[str, list[Level]]:
    return {name: effects.levels(sweep, name) for name in sweep.parameters if sweep.values(name)}


def points_missing(sweep: Sweep) -> bool:
    """Whether some value of a parameter was measured more often than another."""
    return any(len({level.points for level in found}) > 1 for found in _levels(sweep).values())


def _scattered(sweep: Sweep, name: str) -> bool:
    """Whether a parameter took so many numbers that every configuration is drawn, and not means."""
    return len(values := sweep.values(name)) > BY_VALUE and numeric(values)


def means(sweep: Sweep) -> Iterator[Markup]:
    """A drawing of these means, where a parameter took few values."""
    panels = [
        Panel(f"{sweep.names[name]} = {level.label}", [sweep.unit.dot(level.mean, level.ci95)])
        for name, found in _levels(sweep).items()
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


def contrasts(sweep: Sweep, found: Sequence[Contrast]) -> Rows:
    """Matched differences between values of a parameter."""
    return [[each.parameters[0], " to ".join(map(show, each.values[0])), *_difference(each, sweep.unit)] for each in found]


def interactions(sweep: Sweep) -> Rows:
    """Differences of differences."""
    rows = []
    for each in effects.interactions(sweep):
        steps = zip(each.parameters, each.values, strict=True)
        *numbers, claim = _difference(each, sweep.unit)
        label = ", ".join(f"{name} {show(low)} to {show(high)}" for name, (low, high) in steps)
        rows.append([label, *numbers, claim.replace("pairs", "quadruples")])
    return rows


def _difference(each: Contrast, unit: Unit) -> list[str]:
    pairs, of_seeds = each.pairs, each.seeds
    if not pairs.n:
        return ["0", "", "", "", "", each.verdict]
    seeded = "one seed" if of_seeds.n < 2 else unit.interval(of_seeds.ci95, "no spread", signed=True)
    interval = unit.interval(pairs.ci95, "too few" if pairs.n < FEWEST else "no spread", signed=True)
    return [str(pairs.n), unit.difference(pairs.mean), interval, seeded, p_value(each.holm), each.verdict]


def associations(sweep: Sweep) -> Rows:
    """What values of the parameters of a search go with."""
    rows = []
    for each in effects.associations(sweep):
        rho = "no number" if each.rho is None else f"{each.rho:+.2f}".replace("-", MINUS)
        ends = "" if each.ci95 is None else f"[{each.ci95.low:+.2f}, {each.ci95.high:+.2f}]".replace("-", MINUS)
        claim = each.why or ("significant" if each.holm is not None and each.holm < 0.05 else "not significant")
        rows.append([each.parameter, str(each.n), rho, ends, p_value(each.p_value), p_value(each.holm), claim])
    return rows


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


def frontier(sweep: Sweep, found: Sequence[tuple[float, Configuration]]) -> Rows:
    """The configurations on the frontier against a cost."""
    return [
        [each.label, sweep.settings(each), f"{cost:,.0f}", *_mean(sweep, each), seeds(len(each.by_seed()))]
        for cost, each in found
    ]


def _mean(sweep: Sweep, each: Configuration) -> list[str]:
    return [sweep.unit.show(each.mean), sweep.unit.interval(estimate(list(each.by_seed().values())).ci95)]


def configurations(sweep: Sweep) -> Rows:
    """Every configuration, the best first."""
    rows = []
    for each in sweep.ordered:
        spent = ["" if (cost := each.cost(kind)) is None else f"{cost:,.0f}" for kind in COSTS]
        rows.append([each.label, sweep.settings(each), str(len(each.by_seed())), *_mean(sweep, each), *spent])
    return rows


def points(sweep: Sweep) -> Rows:
    """Every point."""
    rows = []
    for point in sweep.planned:
        value = number_or_none(point.get("value"))
        parameters = ", ".join(f"{name} = {show(value)}" for name, value in point["parameters"].items())
        steps, message, run_id = (str(point.get(part) or "") for part in ("steps", "message", "run_id"))
        number = "" if value is None else sweep.unit.show(value)
        rows.append([str(point["number"]), point["state"], number, steps, parameters, message, run_id])
    return rows


def validation_rows(sweep: Sweep, runs: Sequence[Record]) -> set[int]:
    """On how many rows the runs measured an accuracy that was optimized; none for another metric."""
    task, _, number = sweep.metric.partition("/")[2].partition("/")
    asked = [run for run in runs if (run.get("eval") or {}).get("split") == "validation"] if number == "accuracy" else []
    found = ((run.get("tasks") or {}).get(task) or {} for run in asked)
    return {about["n"] for about in found if "n" in about}
