"""The sections of a sweep's report, as blocks that HTML and Markdown share."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist, fmean
from typing import Any

from medrl.report import charts
from medrl.report.charts import Panel
from medrl.report.html import MINUS
from medrl.statistics.metrics import over_seeds
from medrl.sweep.report import effects as statistics
from medrl.sweep.report import noise as spread
from medrl.sweep.report.configurations import Configuration, Sweep
from medrl.sweep.report.document import Block, Command, Drawing, Items, Text, sentences, table, text
from medrl.sweep.report.effects import ALL_PAIRS, BY_VALUE, FEWEST, Contrast, Level, estimate
from medrl.sweep.report.formatting import Unit, key, number_or_none, numeric, p_value, show
from medrl.sweep.report.formatting import seeds as count_seeds
from medrl.sweep.report.noise import POWER, Rival
from medrl.table.table import Column, Table

COSTS = {"tokens": "Tokens of a run", "seconds": "Seconds of a run"}
LONG = 12
"""Rows up to which a table is not folded."""

Record = Mapping[str, Any]


def best(sweep: Sweep, leader: Configuration, selected: Record | None, runs: Sequence[Record]) -> Iterator[Block]:
    """Which point, what it is worth, as a command, and from which others it cannot be told."""
    unit, values = sweep.unit, over_seeds(list(leader.by_seed().values()))
    yield Text(f"{leader.label}: {sweep.settings(leader) or 'the only configuration'}.", strong=True)
    yield Text(text("best_mean", sweep=sweep, unit=unit, spread=values))
    if selected:
        yield Command(selected["command"])
    else:
        words = next(point for point in sweep.planned if point["number"] == leader.points[0].number).get("words") or []
        yield Text(text("not_selected_yet"))
        yield Command(shlex.join(["python", "-m", "medrl", *words]))
    count, by_chance = len(sweep.configurations), spread.noise(sweep).by_chance
    # Blom's approximation (1958) of the expected largest of n normal values.
    luck = by_chance and NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) * by_chance
    yield Text(text("bias", unit=unit, count=count, luck=luck))
    asked = selected.get("test") or [] if selected else []
    tested = [run for run in runs if run.get("run_id") in asked and (run.get("eval") or {}).get("split") == "test"]
    yield _tested(sweep, leader, tested) if tested else Text(text("not_tested", selected=selected))
    if others := spread.rivals(sweep, leader):
        yield from _rivals(sweep, others)


def _tested(sweep: Sweep, leader: Configuration, runs: Sequence[Record]) -> Table:
    """What selected the point beside what it reached on the test split."""
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
            rows_of_task = f" {unit.interval(parts[0].get('ci95'))}, n = {parts[0]['n']}" if "n" in parts[0] else ""
            numbers.append(value)
            each.append(f"seed {run.get('seed')}: {unit.show(value)}{rows_of_task if number == 'accuracy' else ''}")
        if numbers:
            rows.append(_seeds_row(f"test/{name}", numbers, each, unit))
    return table("tested", rows)


def _seeds_row(label: str, values: Sequence[float], each: Iterator[str] | Sequence[str], unit: Unit) -> list[str]:
    mean, _, n, ci95 = over_seeds(values)
    return [label, str(n), unit.show(mean), unit.interval(ci95, "one seed: none"), "; ".join(each)]


def _rivals(sweep: Sweep, found: Sequence[Rival]) -> Iterator[Block]:
    if unclear := spread.undistinguished(found):
        labels = ", ".join(each.configuration.label for each in unclear)
        others = "any other configuration" if len(unclear) == len(found) else labels
        yield Text(text("not_different", others=others), strong=True)
    else:
        yield Text(text("all_differ"))
    unit, rows = sweep.unit, []
    for rival in found:
        how = f"paired, {rival.paired} seeds" if rival.paired else "no test" if rival.p_value is None else "pooled spread"
        numbers = [unit.difference(rival.difference), unit.interval(rival.ci95, signed=True), p_value(rival.corrected)]
        other, answer = rival.configuration, "yes" if rival.significant else "no"
        rows.append([other.label, sweep.settings(other), *numbers, how, answer])
    yield table("rivals", rows, folded=f"All {len(rows)} comparisons" if len(rows) > LONG else "", unit=unit)


def effects(sweep: Sweep) -> Iterator[Block]:
    """Each parameter by itself."""
    if not sweep.varied:
        yield Text(text("nothing_varied"))
        return
    means = {name: statistics.levels(sweep, name) for name in sweep.parameters if sweep.values(name)}
    yield from _pictures(sweep, means)
    unit = sweep.unit
    rows = [
        [name, level.label, unit.show(level.mean), unit.interval(level.ci95), str(level.configurations), str(level.points)]
        for name, found in means.items()
        for level in found
    ]
    missing = any(len({level.points for level in found}) > 1 for found in means.values())
    yield table("levels", rows, sweep=sweep, unit=unit, missing=missing)
    if sweep.balanced:
        yield _contrasts(sweep)
    else:
        yield Text(text("associations", sweep=sweep))
        yield _associations(sweep)


def _pictures(sweep: Sweep, means: Mapping[str, Sequence[Level]]) -> Iterator[Block]:
    unit = sweep.unit
    scattered = [name for name in means if len(values := sweep.values(name)) > BY_VALUE and numeric(values)]
    panels = [
        Panel(f"{sweep.names[name]} = {level.label}", [unit.dot(level.mean, level.ci95)])
        for name in means
        if name not in scattered
        for level in means[name]
    ]
    if panels:
        drawn = charts.forest("Mean at each value; the table below holds the numbers", panels, unit.scaled)
        yield Drawing(text("drawn_means", sweep=sweep, unit=unit), [("", drawn)], style="axis-both")
    scatters = []
    for name in scattered:
        dots = [
            charts.Spot(float(value := each.parameters[name]), each.mean, f"{each.label}: {show(value)}, {unit.show(each.mean)}")
            for each in sweep.having(name)
        ]
        title = f"{sweep.metric} over {name}"
        scatters.append((sweep.names[name], charts.scatter(title, dots, unit.show, logarithmic=sweep.logarithmic(name))))
    if scatters:
        yield Drawing(text("drawn_scatters", unit=unit), scatters)


def _contrasts(sweep: Sweep) -> Table:
    found = statistics.contrasts(sweep)
    rows = [[each.parameters[0], " to ".join(map(show, each.values[0])), *_difference(each, sweep.unit)] for each in found]
    tests = sum(each.p_value is not None for each in found)
    return table("contrasts", rows, strong=_significant(rows), unit=sweep.unit, fewest=FEWEST, all_pairs=ALL_PAIRS, tests=tests)


def _significant(rows: Sequence[Sequence[str]]) -> list[int]:
    """Rows whose verdict, in the last column, claims something."""
    return [place for place, row in enumerate(rows) if row[-1].startswith("significant")]


def _difference(each: Contrast, unit: Unit) -> list[str]:
    pairs, seeds = each.pairs, each.seeds
    if not pairs.n:
        return ["0", "", "", "", "", verdict(each)]
    seeded = "one seed" if seeds.n < 2 else unit.interval(seeds.ci95, "no spread", signed=True)
    interval = unit.interval(pairs.ci95, "too few" if pairs.n < FEWEST else "no spread", signed=True)
    return [str(pairs.n), unit.difference(pairs.mean), interval, seeded, p_value(each.holm), verdict(each)]


def verdict(each: Contrast) -> str:
    """What may be claimed of a contrast."""
    if each.pairs.n < FEWEST:
        return "too few pairs"
    if each.holm is None or each.holm >= 0.05:
        return "not significant"
    if each.seeds.n < 2:
        return "significant, with one seed"
    if each.seeds.ci95 is None or each.seeds.ci95.low * each.seeds.ci95.high > 0:
        return "significant"
    return "significant only if pairs of a seed are independent"


def _associations(sweep: Sweep) -> Table:
    rows = []
    for each in statistics.associations(sweep):
        rho = "no number" if each.rho is None else f"{each.rho:+.2f}".replace("-", MINUS)
        ends = "" if each.ci95 is None else f"[{each.ci95.low:+.2f}, {each.ci95.high:+.2f}]".replace("-", MINUS)
        claim = each.why or ("significant" if each.holm is not None and each.holm < 0.05 else "not significant")
        rows.append([each.parameter, str(each.n), rho, ends, p_value(each.p_value), p_value(each.holm), claim])
    return table("associations", rows, strong=_significant(rows), sweep=sweep)


def interactions(sweep: Sweep) -> Iterator[Block]:
    """Interactions of every two parameters; nothing where fewer than two varied."""
    varied = sweep.varied
    if len(varied) < 2:
        return
    if not sweep.balanced:
        yield Text(text("no_matches", sweep=sweep))
        return
    for one, two in itertools.combinations(varied, 2):
        yield _heat(sweep, one, two, folded=len(varied) > 3)
    rows = []
    for each in statistics.interactions(sweep):
        steps = zip(each.parameters, each.values, strict=True)
        label = ", ".join(f"{name} {show(low)} to {show(high)}" for name, (low, high) in steps)
        *numbers, claim = _difference(each, sweep.unit)
        rows.append([label, *numbers, claim.replace("pairs", "quadruples")])
    if rows:
        yield table("interactions", rows, strong=_significant(rows), unit=sweep.unit, fewest=FEWEST)
    else:
        yield Text(text("no_quadruples"))


def _heat(sweep: Sweep, one: str, two: str, *, folded: bool) -> Table:
    """Mean of each cell, the darker the higher."""
    cells: dict[tuple[str, str], list[float]] = {}
    for point in sweep.points:
        if one in point.parameters and two in point.parameters:
            cells.setdefault((key(point.parameters[one]), key(point.parameters[two])), []).append(point.value)
    means = {place: fmean(values) for place, values in cells.items()}
    low, high = min(means.values(), default=0.0), max(means.values(), default=0.0)
    rows, shades = [], []
    for value in sweep.values(one):
        places = [(key(value), key(other)) for other in sweep.values(two)]
        cells_shown = [
            f"{sweep.unit.show(means[place])} (n = {len(cells[place])})" if place in means else "none" for place in places
        ]
        rows.append([show(value), *cells_shown])
        shares = [(means[place] - low) / (high - low) if place in means and high > low else 0 for place in places]
        shades.append([round(10 * share) for share in shares])
    caption = f"Mean {sweep.unit.name} by {one} (down) and {two} (across), n points each; the darker the higher."
    columns = [Column(one), *(Column(show(value), right=True) for value in sweep.values(two))]
    return Table(columns, rows, caption, folded=f"{one} by {two}" if folded else "", shades=shades)


def costs(sweep: Sweep, leader: Configuration) -> Iterator[Block]:
    """The frontier against each cost that is known."""
    unit, any_known = sweep.unit, False
    for kind, words in COSTS.items():
        priced = [(cost, each) for each in sweep.configurations if (cost := each.cost(kind)) is not None]
        if not any(cost for cost, _ in priced):
            continue
        any_known, frontier = True, spread.frontier(sweep, kind)
        dots = []
        for cost, each in sorted(priced, key=lambda pair: pair[0]):
            full, title = (cost, each) in frontier, f"{each.label}: {unit.show(each.mean)}, {cost:,.0f} {kind}"
            dots.append(charts.Spot(cost, each.mean, title, full, each.label if full else ""))
        drawn = charts.scatter(f"{sweep.metric} against {kind}", dots, unit.show, words, joined=True)
        yield Drawing(text("drawn_costs", unit=unit, kind=kind), [("", drawn)])
        rows, strong = [], [place for place, (_, each) in enumerate(frontier) if each is leader]
        for cost, each in frontier:
            seeds = list(each.by_seed().values())
            numbers = [f"{cost:,.0f}", unit.show(each.mean), unit.interval(estimate(seeds).ci95), count_seeds(len(seeds))]
            rows.append([each.label, sweep.settings(each), *numbers])
        yield table("frontier", rows, strong=strong, sweep=sweep, unit=unit, kind=kind, cost=words)
    yield Text(text("frontier_by_chance" if any_known else "no_cost"))


def every_point(sweep: Sweep, leader: Configuration | None) -> Iterator[Block]:
    """Every configuration, and every point."""
    unit, rows = sweep.unit, []
    ordered = sorted(sweep.configurations, key=lambda each: each.mean, reverse=sweep.maximise)
    for each in ordered:
        seeds, spent = list(each.by_seed().values()), [each.cost(kind) for kind in COSTS]
        numbers = [str(len(seeds)), unit.show(each.mean), unit.interval(estimate(seeds).ci95)]
        numbers += ["" if cost is None else f"{cost:,.0f}" for cost in spent]
        rows.append([each.label, sweep.settings(each), *numbers])
    if rows:
        strong = [place for place, each in enumerate(ordered) if each is leader]
        folded = f"All {len(rows)} configurations" if len(rows) > LONG else ""
        yield table("configurations", rows, strong=strong, folded=folded, unit=unit)
    points = []
    for point in sweep.planned:
        value = number_or_none(point.get("value"))
        parameters = ", ".join(f"{name} = {show(value)}" for name, value in point["parameters"].items())
        about = [str(point.get(part) or "") for part in ("steps", "message", "run_id")]
        number = "" if value is None else unit.show(value)
        points.append([str(point["number"]), point["state"], number, about[0], parameters, *about[1:]])
    if points:
        yield table("points", points, folded=f"All {len(points)} points", unit=unit)


def noise(sweep: Sweep, runs: Sequence[Record]) -> Items:
    """The spread between seeds against that between configurations."""
    task, _, number = sweep.metric.partition("/")[2].partition("/")
    sizes = {
        about["n"]
        for run in runs
        if (run.get("eval") or {}).get("split") == "validation" and "n" in (about := (run.get("tasks") or {}).get(task) or {})
    }
    found, rows = spread.noise(sweep), sizes if number == "accuracy" else ()
    return Items(list(sentences("noise", noise=found, unit=sweep.unit, power=POWER, rows=rows)))
