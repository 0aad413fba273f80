"""The sections of a sweep's report, as blocks that HTML and Markdown share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from medrl.report import charts
from medrl.report.charts import Panel
from medrl.sweep.report import effects as statistics
from medrl.sweep.report import formatting, plots
from medrl.sweep.report import noise as spread
from medrl.sweep.report.document import Block, Drawing, Items, Text, table
from medrl.sweep.report.effects import (
    ALL_PAIRS,
    BY_VALUE,
    FEWEST,
    Association,
    Contrast,
    Level,
    associations,
    contrasts,
    estimate,
    levels,
    show,
)  # fmt: skip
from medrl.sweep.report.formatting import Unit
from medrl.sweep.report.noise import POWER, frontier
from medrl.sweep.report.results import Configuration, Sweep, key, number_or_none, numeric
from medrl.table.table import Table

COSTS = {"tokens": "Tokens of a run", "seconds": "Seconds of a run"}


def effects(sweep: Sweep) -> list[Block]:
    """Each parameter by itself."""
    unit, names = Unit(sweep.metric), formatting.short_names(list(sweep.parameters))
    if not any(len(sweep.values(name)) > 1 for name in sweep.parameters):
        return [Text("No parameter but the seed took two values among the finished points.")]
    means = {name: levels(sweep, name) for name in sweep.parameters if sweep.values(name)}
    blocks: list[Block] = [*_pictures(sweep, unit, names, means), _levels(sweep, unit, means)]
    if sweep.balanced:
        return [*blocks, *_contrasts(contrasts(sweep), unit)]
    return [*blocks, *_associations(sweep, associations(sweep))]


def _pictures(sweep: Sweep, unit: Unit, names: Mapping[str, str], means: Mapping[str, Sequence[Level]]) -> Iterator[Block]:
    scattered = [name for name in means if len(values := sweep.values(name)) > BY_VALUE and numeric(values)]
    panels = [
        Panel(f"{names[name]} = {level.label}", [unit.dot(level.mean, level.ci95)])
        for name in means
        if name not in scattered
        for level in means[name]
    ]
    if panels:
        where = "differences" if sweep.balanced else "associations"
        yield Drawing(
            f"Mean {unit.name} at each value of each parameter, with Student's 95 % intervals over configurations. A mean "
            f"depends on the other parameters, too: compare two values by the {where} below, not by whether their bars overlap.",
            [("", charts.forest("Mean at each value; the table below holds the numbers", panels, unit.scaled))],
        )
    drawn = []
    for name in scattered:
        having = [each for each in sweep.configurations if name in each.parameters]
        dots = [
            plots.Dot(
                float(each.parameters[name]), each.mean, f"{each.label}: {show(each.parameters[name])}, {unit.show(each.mean)}"
            )
            for each in having
        ]
        svg = plots.scatter(f"{sweep.metric} over {name}", dots, unit.show, logarithmic=sweep.logarithmic(name))
        drawn.append((names[name], svg))
    if drawn:
        yield Drawing(f"{unit.name} of every configuration over each number that was varied.", drawn, style="axis-left")


def _levels(sweep: Sweep, unit: Unit, means: Mapping[str, Sequence[Level]]) -> Table:
    rows = [
        [name, level.label, unit.show(level.mean), unit.interval(level.ci95), str(level.configurations), str(level.points)]
        for name, found in means.items()
        for level in found
    ]
    caption = (
        f"Mean of {sweep.metric} at each value{'' if sweep.balanced else ', or in bins of about equally many configurations'}. "
        "Intervals are Student's over configurations (over seeds where one configuration has the value)."
    )
    if not sweep.balanced:
        caption += " The search is not balanced: configurations with two values differ in the other parameters, too."
    elif any(len({level.points for level in found}) > 1 for found in means.values()):
        caption += " Points are missing, so that means are over different configurations; the matched differences are not."
    return table(caption, ("Parameter", "Value", unit.column, "95 % interval", "Configurations", "Points"), rows, {1})


def _contrasts(found: Sequence[Contrast], unit: Unit) -> Iterator[Block]:
    rows = [
        [each.parameters[0], " to ".join(map(show, each.values[0])), *_difference(each, unit), verdict(each)] for each in found
    ]
    caption = (
        "Matched differences: mean change between points that differ in nothing but the parameter (they have the same seed), "
        f"with Student's interval and test over the pairs. Under {FEWEST} pairs nothing is claimed. The test takes the pairs as "
        "independent. Where a seed moves several of them alike they are not; “each seed once” averages each seed's pairs first: "
        "use it where pairs within a seed are correlated. Intervals are 95 % each; p is corrected by Holm for all "
        f"{sum(each.pairs.p_value is not None for each in found)} tests of this table. Of more than {ALL_PAIRS} values, each is "
        "compared with the first."
    )
    head = ("Parameter", "From, to", "Pairs", unit.difference_name, "95 % interval", "Each seed once", "p, Holm", "Verdict")
    yield table(caption, head, rows, {1, 7}, [i for i, each in enumerate(found) if verdict(each).startswith("significant")])


def _difference(each: Contrast, unit: Unit) -> list[str]:
    pairs, seeds = each.pairs, each.seeds
    if not pairs.n:
        return ["0", "", "", "", ""]
    nothing = "too few" if pairs.n < FEWEST else "no spread"
    seeded = "one seed" if seeds.n < 2 else unit.interval(seeds.ci95, "no spread", signed=True)
    interval = unit.interval(pairs.ci95, nothing, signed=True)
    return [str(pairs.n), unit.difference(pairs.mean), interval, seeded, formatting.p_value(each.holm)]


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


def _associations(sweep: Sweep, found: Sequence[Association]) -> Iterator[Block]:
    yield Text(
        f"A {sweep.method} search does not balance its points. What follows are associations over configurations that differ in "
        "other parameters, too, and not effects of one parameter with all others equal."
    )
    rows = []
    for each in found:
        rho = "no number" if each.rho is None else f"{each.rho:+.2f}".replace("-", formatting.MINUS)
        ends = "" if each.ci95 is None else f"[{each.ci95.low:+.2f}, {each.ci95.high:+.2f}]".replace("-", formatting.MINUS)
        claim = each.why or ("significant" if each.holm is not None and each.holm < 0.05 else "not significant")
        p_values = [formatting.p_value(each.p_value), formatting.p_value(each.holm)]
        rows.append([each.parameter, str(each.n), rho, ends, *p_values, claim])
    caption = (
        f"Spearman's rank correlation of each number with {sweep.metric} (+1: it always rises with it), with Bonett and Wright's "
        "interval and a permutation test; of words and switches a permutation test of equal means. Ranks see only what always "
        "rises or always falls: a best value in the middle shows in the bins, not here. Seeds are averaged first. The last p is "
        "corrected by Holm for all tests of this table."
    )
    head = ("Parameter", "Configurations", "Correlation", "95 % interval", "p", "p, Holm", "Verdict")
    yield table(caption, head, rows, {6}, [i for i, row in enumerate(rows) if row[-1] == "significant"])


def interactions(sweep: Sweep) -> list[Block]:
    """Interactions of every two parameters; empty where fewer than two varied."""
    varied = [name for name in sweep.parameters if len(sweep.values(name)) > 1]
    if len(varied) < 2:
        return []
    if not sweep.balanced:
        return [Text(f"A {sweep.method} search has no matched points, so that no interaction can be estimated.")]
    unit, found = Unit(sweep.metric), statistics.interactions(sweep)
    blocks: list[Block] = [_heat(sweep, one, two, unit, len(varied) > 3) for one, two in itertools.combinations(varied, 2)]
    rows = []
    for each in found:
        (a, b), (c, d) = each.values
        label = f"{each.parameters[0]} {show(a)} to {show(b)}, {each.parameters[1]} {show(c)} to {show(d)}"
        rows.append([label, *_difference(each, unit), verdict(each).replace("pairs", "quadruples")])
    if not rows:
        return [
            *blocks,
            Text("No four finished points combine two values of two parameters with all else equal: nothing to test."),
        ]
    caption = (
        "Differences of differences: how much more the step of the first parameter changes at the second's other value than at "
        f"its first; 0 where the two add up. Over quadruples of points with all else equal; under {FEWEST} nothing is claimed. "
        "Intervals and the correction by Holm, over this table, as for matched differences. An interaction needs about four "
        "times the runs that a difference needs: “not significant” does not mean “none”."
    )
    head = ("Steps", "Quadruples", unit.difference_name, "95 % interval", "Each seed once", "p, Holm", "Verdict")
    return [*blocks, table(caption, head, rows, {6}, [i for i, row in enumerate(rows) if row[-1].startswith("significant")])]


def _heat(sweep: Sweep, one: str, two: str, unit: Unit, folded: bool) -> Table:
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
        shown = [f"{unit.show(means[place])} (n = {len(cells[place])})" if place in means else "none" for place in places]
        rows.append([show(value), *shown])
        shares = [(means[place] - low) / (high - low) if place in means and high > low else 0 for place in places]
        shades.append([round(10 * share) for share in shares])
    caption = f"Mean {unit.name} by {one} (down) and {two} (across), n points each; the darker the higher."
    head = (one, *map(show, sweep.values(two)))
    return table(caption, head, rows, shades=shades, folded=f"{one} by {two}" if folded else "")


def costs(sweep: Sweep, best: Configuration) -> list[Block]:
    """The frontier against each cost that is known."""
    unit, names = Unit(sweep.metric), formatting.short_names(list(sweep.parameters))
    blocks: list[Block] = []
    for kind, words in COSTS.items():
        kept = frontier(sweep, kind)
        if not kept or not any(each.cost(kind) for each in sweep.configurations):
            continue
        priced = [(each, cost) for each in sweep.configurations if (cost := each.cost(kind)) is not None]
        dots = [
            plots.Dot(cost, each.mean, f"{each.label}: {unit.show(each.mean)}, {cost:,.0f} {kind}", each in kept,
                      each.label if each in kept else "")
            for each, cost in sorted(priced, key=lambda pair: pair[1])
        ]  # fmt: skip
        drawn = plots.scatter(f"{sweep.metric} against {kind}", dots, unit.show, words, joined=True)
        caption = f"{unit.name} against {kind}, a dot a configuration with its seeds averaged; filled dots are the frontier."
        rows = [
            [each.label, formatting.settings(each.parameters, names), f"{each.cost(kind):,.0f}", unit.show(each.mean),
             unit.interval(estimate(list(each.by_seed().values())).ci95), formatting.seeds(len(each.by_seed()))]
            for each in kept
        ]  # fmt: skip
        head = ("Configuration", "Setting", words, unit.column, "95 % interval", "Over")
        strong = [i for i, each in enumerate(kept) if each is best]
        what = f"The frontier of {sweep.metric} against {kind}: no configuration is as good for less."
        blocks += [Drawing(caption, [("", drawn)], style="axis-left"), table(what, head, rows, {1}, strong)]
    if not blocks:
        return [Text("No finished point recorded its cost.")]
    return [*blocks, Text(
        "The frontier is of measured means: a configuration may be on it, or off it, by chance. Runs that share a machine slow "
        "one another down, which their seconds include."
    )]  # fmt: skip


def every_point(sweep: Sweep, best: Configuration | None) -> list[Block]:
    """Every configuration, and every point."""
    unit, names = Unit(sweep.metric), formatting.short_names(list(sweep.parameters))
    blocks: list[Block] = []
    ordered = sorted(sweep.configurations, key=lambda each: each.mean, reverse=sweep.maximise)
    if rows := [_configuration(each, unit, names) for each in ordered]:
        caption = "Every configuration with its seeds averaged, the best first; Student's intervals over seeds."
        head = ("Configuration", "Setting", "Seeds", unit.column, "95 % interval", *COSTS.values())
        strong = [place for place, each in enumerate(ordered) if each is best]
        blocks.append(table(caption, head, rows, {1}, strong, f"All {len(rows)} configurations" if len(rows) > 12 else ""))
    points = [
        [str(point["number"]), point["state"], "" if (value := number_or_none(point.get("value"))) is None else unit.show(value),
         str(point.get("steps") or ""), ", ".join(f"{name} = {show(value)}" for name, value in point["parameters"].items()),
         str(point.get("message") or ""), str(point.get("run_id") or "")]
        for point in sweep.planned
    ]  # fmt: skip
    if points:
        head = ("Point", "State", unit.column, "Steps", "Parameters", "Message", "Run")
        blocks.append(table("Every point of the sweep.", head, points, {1, 4, 5, 6}, folded=f"All {len(points)} points"))
    return blocks


def _configuration(each: Configuration, unit: Unit, names: Mapping[str, str]) -> list[str]:
    seeds, spent = list(each.by_seed().values()), [each.cost(kind) for kind in COSTS]
    numbers = [str(len(seeds)), unit.show(each.mean), unit.interval(estimate(seeds).ci95)]
    return [
        each.label,
        formatting.settings(each.parameters, names),
        *numbers,
        *("" if cost is None else f"{cost:,.0f}" for cost in spent),
    ]


def noise(sweep: Sweep, runs: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The spread between seeds against that between configurations."""
    unit, found = Unit(sweep.metric), spread.noise(sweep)
    items = []
    if found.within is None:
        items.append("Between seeds: unknown, because no configuration ran with two. No two configurations can be told apart.")
    else:
        items.append(
            f"Between seeds of one configuration: a standard deviation of {unit.spread(found.within)} (pooled, {found.df} "
            "degrees of freedom)."
        )
    if found.between is not None:
        among = f"Between the means of configurations: a standard deviation of {unit.spread(found.between)}"
        chance = "" if found.by_chance is None else f"; noise between seeds alone would give about {unit.spread(found.by_chance)}"
        items.append(f"{among}{chance}.")
    if found.detectable is not None:
        items.append(
            f"Minimum detectable difference between two configurations of {formatting.seeds(found.seeds)} each: about "
            f"{unit.spread(found.detectable)} (power {POWER}, alpha 0.05, unpaired). A smaller one may exist and be missed."
        )
    elif found.within is not None:
        items.append("Minimum detectable difference: unknown, because the finished seeds gave equal values.")
    task, _, number = sweep.metric.partition("/")[2].partition("/")
    sizes = {
        about["n"]
        for run in runs
        if (run.get("eval") or {}).get("split") == "validation" and "n" in (about := (run.get("tasks") or {}).get(task) or {})
    }
    if number == "accuracy" and sizes:
        rows = " or ".join(map(str, sorted(sizes)))
        items.append(
            f"Each value is over {rows} rows, the same for every point. No interval here covers other rows; the test split does."
        )
    return [Items(items)]
