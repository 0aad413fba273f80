"""The chapters of a sweep's report, as blocks that HTML and Markdown share."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from medrl.report.charts import escaped
from medrl.sweep import plots, wording
from medrl.sweep.report.document import Block, Drawing, Items, Table, Text
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
    interactions,
    levels,
    show,
)  # fmt: skip
from medrl.sweep.report.formatting import Unit
from medrl.sweep.report.noise import POWER, frontier, noise
from medrl.sweep.report.results import Configuration, Sweep, key, number_or_none, numeric

WORDS = frozenset
COSTS = {"tokens": "Tokens of a run", "seconds": "Seconds of a run"}


def effects(sweep: Sweep) -> list[Block]:
    """Each parameter by itself."""
    unit, names = Unit(sweep.metric), wording.short(list(sweep.parameters))
    if not any(len(sweep.values(name)) > 1 for name in sweep.parameters):
        return [Text("No parameter but the seed took two values among the finished points.")]
    means = {name: levels(sweep, name) for name in sweep.parameters if sweep.values(name)}
    blocks: list[Block] = [*_pictures(sweep, unit, names, means), _levels(sweep, unit, means)]
    if sweep.balanced:
        return [*blocks, *_contrasts(contrasts(sweep), unit)]
    return [*blocks, *_associations(sweep, associations(sweep))]


def _pictures(sweep: Sweep, unit: Unit, names: Mapping[str, str], means: Mapping[str, Sequence[Level]]) -> Iterator[Block]:
    scattered = [name for name in means if len(values := sweep.values(name)) > BY_VALUE and numeric(values)]
    if rows := [
        (f"{names[name]} = {level.label}", level.mean, level.ci95)
        for name in means
        if name not in scattered
        for level in means[name]
    ]:
        what = "compare two values by the differences below" if sweep.balanced else "see the associations below"
        yield Drawing(
            f"Mean {unit.name} at each value of each parameter, with Student's 95 % intervals over configurations. They hold "
            f"what the other parameters do, too: {what}, and not by whether bars overlap. Bars that reach an edge go on.",
            plots.intervals("Mean at each value; the table below holds the numbers", rows, unit.show),
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
        caption = f"<figcaption><b>{escaped(names[name])}</b></figcaption>"
        drawn.append(f'<figure>{caption}<div class="axis-left">{svg}</div></figure>')
    if drawn:
        yield Drawing(f"{unit.name} of every configuration over each number that was varied.", "".join(drawn), style="grid")


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
        caption += " The points are not balanced: means at two values differ in the other parameters, too."
    elif any(len({level.points for level in found}) > 1 for found in means.values()):
        caption += " Points are missing, so that some means are over unlike others; the matched differences are not."
    return Table(caption, ("Parameter", "Value", unit.column, "95 % interval", "Configurations", "Points"), rows, WORDS({1}))


def _contrasts(found: Sequence[Contrast], unit: Unit) -> Iterator[Block]:
    rows = [
        [each.parameters[0], " to ".join(map(show, each.values[0])), *_difference(each, unit), verdict(each)] for each in found
    ]
    caption = (
        "Matched differences: mean change between points that differ in nothing but the parameter, the seed included, with "
        f"Student's interval and test over the pairs. Under {FEWEST} pairs nothing is claimed. The pairs count as independent; "
        "where the same seed moves several of them alike they are not, so the column “each seed once” gives the interval over "
        "the seeds' own means, which speaks of other seeds and trusts nothing more. Intervals are 95 % each; p is corrected by "
        f"Holm for all {sum(each.pairs.p_value is not None for each in found)} tests of this table. Of more than {ALL_PAIRS} "
        "values, each is compared with the first."
    )
    head = ("Parameter", "From, to", "Pairs", unit.difference_name, "95 % interval", "Each seed once", "p, Holm", "Verdict")
    yield Table(caption, head, rows, WORDS({1, 7}), WORDS(i for i, each in enumerate(found) if verdict(each).startswith("clear")))


def _difference(each: Contrast, unit: Unit) -> list[str]:
    pairs, seeds = each.pairs, each.seeds
    if not pairs.n:
        return ["0", "", "", "", ""]
    nothing = "too few" if pairs.n < FEWEST else "no spread"
    seeded = "one seed" if seeds.n < 2 else unit.interval(seeds.ci95, "no spread", signed=True)
    interval = unit.interval(pairs.ci95, nothing, signed=True)
    return [str(pairs.n), unit.difference(pairs.mean), interval, seeded, wording.p_value(each.holm)]


def verdict(each: Contrast) -> str:
    """What may be claimed of a contrast."""
    if each.pairs.n < FEWEST:
        return "too few pairs"
    if each.holm is None or each.holm >= 0.05:
        return "not clear"
    if each.seeds.n < 2:
        return "clear, with one seed"
    if each.seeds.ci95 is None or each.seeds.ci95.low * each.seeds.ci95.high > 0:
        return "clear"
    return "clear only if pairs of a seed are independent"


def _associations(sweep: Sweep, found: Sequence[Association]) -> Iterator[Block]:
    yield Text(
        f"A {sweep.method} search does not balance its points: what follows are associations over configurations, in which other "
        "parameters differ as well, and no effects of one parameter with all else equal."
    )
    rows = []
    for each in found:
        rho = "no number" if each.rho is None else f"{each.rho:+.2f}".replace("-", wording.MINUS)
        ends = "" if each.ci95 is None else f"[{each.ci95.low:+.2f}, {each.ci95.high:+.2f}]".replace("-", wording.MINUS)
        said = each.why or ("clear" if each.holm is not None and each.holm < 0.05 else "not clear")
        rows.append([each.parameter, str(each.n), rho, ends, wording.p_value(each.p_value), wording.p_value(each.holm), said])
    caption = (
        f"Spearman's rank correlation of each number with {sweep.metric} (+1: rises with it throughout), with Bonett and "
        "Wright's interval and a permutation test; of words and switches a permutation test of equal means. Ranks see only "
        "what rises or falls throughout: a best value in the middle shows in the bins, not here. Seeds are averaged first. The "
        "last p is corrected by Holm for all tests of this table."
    )
    head = ("Parameter", "Configurations", "Correlation", "95 % interval", "p", "p, Holm", "Verdict")
    yield Table(caption, head, rows, WORDS({6}), WORDS(i for i, row in enumerate(rows) if row[-1] == "clear"))


def together(sweep: Sweep) -> list[Block]:
    """Interactions of every two parameters; empty where fewer than two varied."""
    varied = [name for name in sweep.parameters if len(sweep.values(name)) > 1]
    if len(varied) < 2:
        return []
    if not sweep.balanced:
        return [Text(f"A {sweep.method} search matches no points, so that no interaction can be taken from it.")]
    unit, found = Unit(sweep.metric), interactions(sweep)
    blocks: list[Block] = [_heat(sweep, one, two, unit, len(varied) > 3) for one, two in itertools.combinations(varied, 2)]
    rows = []
    for each in found:
        (a, b), (c, d) = each.values
        label = f"{each.parameters[0]} {show(a)} to {show(b)}, {each.parameters[1]} {show(c)} to {show(d)}"
        rows.append([label, *_difference(each, unit), verdict(each).replace("pairs", "quadruples")])
    if not rows:
        return [*blocks, Text("No four finished points cross two values of two parameters with all else equal: nothing to test.")]
    caption = (
        "Differences of differences: how much more the step of the first parameter does at the second's other value than at its "
        f"first; 0 where the two add up. Over quadruples of points with all else equal; under {FEWEST} nothing is claimed. "
        "Intervals and the correction by Holm, over this table, as for matched differences. An interaction needs about four "
        "times the runs that a difference needs, so that “not clear” is not “none”."
    )
    head = ("Steps", "Quadruples", unit.difference_name, "95 % interval", "Each seed once", "p, Holm", "Verdict")
    return [
        *blocks,
        Table(caption, head, rows, WORDS({6}), WORDS(i for i, row in enumerate(rows) if row[-1].startswith("clear"))),
    ]


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
        rows.append(
            [
                show(value),
                *(f"{unit.show(means[place])} (n = {len(cells[place])})" if place in means else "none" for place in places),
            ]
        )
        shades.append(
            [round(10 * (means[place] - low) / (high - low)) if place in means and high > low else 0 for place in places]
        )
    caption = f"Mean {unit.name} by {one} (down) and {two} (across), n points each; the darker the higher."
    fold = f"{one} by {two}" if folded else ""
    return Table(caption, (one, *map(show, sweep.values(two))), rows, shades=shades, folded=fold)


def costs(sweep: Sweep, best: Configuration) -> list[Block]:
    """The frontier against each cost that is known."""
    unit, names = Unit(sweep.metric), wording.short(list(sweep.parameters))
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
            [each.label, wording.settings(each.parameters, names), f"{each.cost(kind):,.0f}", unit.show(each.mean),
             unit.interval(estimate(list(each.by_seed().values())).ci95), wording.seeds(len(each.by_seed()))]
            for each in kept
        ]  # fmt: skip
        blocks += [
            Drawing(caption, drawn, style="axis-left"),
            Table(f"The frontier of {sweep.metric} against {kind}: for no less can one have as much.",
                  ("Configuration", "Setting", words, unit.column, "95 % interval", "Over"), rows, WORDS({1}),
                  WORDS(i for i, each in enumerate(kept) if each is best)),
        ]  # fmt: skip
    if not blocks:
        return [Text("No finished point says what it cost.")]
    return [*blocks, Text(
        "The frontier is of the means that were seen: a point may be on it, or off it, by luck. Seconds of runs that shared a "
        "machine hold what their neighbours took."
    )]  # fmt: skip


def _coordinates(sweep: Sweep, best: Configuration | None, unit: Unit, names: Mapping[str, str]) -> Iterator[Block]:
    """Every point that ran as a line; nothing where none did or nothing was varied."""
    strands = [
        plots.Strand(
            {name: value for name, value in point["parameters"].items() if name in names},
            number_or_none(point.get("value")) if point["state"] in ("finished", "stopped") else None,
            point["state"],
            f"Point {point['number']}, {point['state']}: {json.dumps(point['parameters'])}",
            best is not None and point["state"] == "finished" and sweep.of(point["parameters"]) is best,
        )
        for point in sweep.planned
        if point["state"] != "left"
    ]
    if not strands or not names:
        return
    axes = {name: (word, sweep.logarithmic(name)) for name, word in names.items()}
    drawn = plots.parallel(f"{sweep.metric} of every point", axes, strands, unit.column, unit.show, maximise=sweep.maximise)
    kinds = {"finished": "whole: finished", "stopped": "dashed: stopped early, at its last value", "failed": "dotted: failed"}
    lines = ", ".join(said for state, said in kinds.items() if any(strand.state == state for strand in strands))
    heavy = f" The heavy ones are {best.label}." if best else ""
    caption = (
        f"Every point as a line through its parameters to its value, or to a cross where it has none. Lines are {lines}.{heavy}"
    )
    colours = "".join(map(plots.shade_key, range(plots.SHADES)))
    legend = f' Worst <span class="key">{colours}</span> best.' if best else ""
    yield Drawing(caption, f'<div class="coordinates">{drawn}</div>', legend, "scroll")


def every_point(sweep: Sweep, best: Configuration | None) -> list[Block]:
    """Parallel coordinates, and the tables that hold the same."""
    unit, names = Unit(sweep.metric), wording.short(list(sweep.parameters))
    blocks: list[Block] = [*_coordinates(sweep, best, unit, names)]
    ordered = sorted(sweep.configurations, key=lambda each: each.mean, reverse=sweep.maximise)
    rows = [_configuration(each, unit, names) for each in ordered]
    if rows:
        caption = "Every configuration with its seeds averaged, the best first; Student's intervals over seeds."
        head = ("Configuration", "Setting", "Seeds", unit.column, "95 % interval", *COSTS.values())
        blocks.append(Table(caption, head, rows, WORDS({1}), WORDS({0}), f"All {len(rows)} configurations"))
    points = [
        [str(point["number"]), point["state"], "" if (value := number_or_none(point.get("value"))) is None else unit.show(value),
         str(point.get("steps") or ""), ", ".join(f"{name} = {show(value)}" for name, value in point["parameters"].items()),
         str(point.get("message") or ""), str(point.get("run_id") or "")]
        for point in sweep.planned
    ]  # fmt: skip
    if points:
        head = ("Point", "State", unit.column, "Steps", "Parameters", "Message", "Run")
        blocks.append(Table("Every point of the sweep.", head, points, WORDS({1, 4, 5, 6}), folded=f"All {len(points)} points"))
    return blocks


def _configuration(each: Configuration, unit: Unit, names: Mapping[str, str]) -> list[str]:
    seeds, spent = list(each.by_seed().values()), [each.cost(kind) for kind in COSTS]
    numbers = [str(len(seeds)), unit.show(each.mean), unit.interval(estimate(seeds).ci95)]
    return [
        each.label,
        wording.settings(each.parameters, names),
        *numbers,
        *("" if cost is None else f"{cost:,.0f}" for cost in spent),
    ]


def chance(sweep: Sweep, runs: Sequence[Mapping[str, Any]]) -> list[Block]:
    """The spread between seeds against that between configurations."""
    unit, seen = Unit(sweep.metric), noise(sweep)
    said = []
    if seen.within is None:
        said.append("Between seeds: unknown, for no configuration ran with two. No two configurations can be told apart.")
    else:
        said.append(
            f"Between seeds of one configuration: a standard deviation of {unit.spread(seen.within)} (pooled, {seen.df} "
            "degrees of freedom)."
        )
    if seen.between is not None:
        among = f"Between the means of configurations: a standard deviation of {unit.spread(seen.between)}"
        chance = "" if seen.by_chance is None else f"; noise between seeds alone would give about {unit.spread(seen.by_chance)}"
        said.append(f"{among}{chance}.")
    if seen.detectable is not None:
        said.append(
            f"Smallest difference of two configurations of {wording.seeds(seen.seeds)} each that would be seen in "
            f"{100 * POWER:.0f} of 100 sweeps (at 5 %, unpaired): about {unit.spread(seen.detectable)}. A smaller one may be "
            "there and was not to be seen."
        )
    elif seen.within is not None:
        said.append("Smallest difference to be seen: unknown, for the seeds that finished gave equal values.")
    task, _, number = sweep.metric.partition("/")[2].partition("/")
    sizes = {
        about["n"]
        for run in runs
        if (run.get("eval") or {}).get("split") == "validation" and "n" in (about := (run.get("tasks") or {}).get(task) or {})
    }
    if number == "accuracy" and sizes:
        rows = " or ".join(map(str, sorted(sizes)))
        said.append(
            f"Each value is over {rows} rows, the same for every point. No interval here speaks of other rows; the test split "
            "does."
        )
    return [Items(said)]
