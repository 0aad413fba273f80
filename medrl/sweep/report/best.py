"""The chapter on the chosen point: its command, what its value is worth, and what it cannot be told from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from medrl.metrics import over_seeds
from medrl.sweep import wording
from medrl.sweep.report.document import Block, Command, Table, Text
from medrl.sweep.report.formatting import Unit
from medrl.sweep.report.noise import Rival, all_untold, noise, rivals
from medrl.sweep.report.results import Configuration, Sweep, number_or_none

Record = Mapping[str, Any]
WORDS = frozenset


def best_point(sweep: Sweep, best: Configuration, chosen: Mapping[str, Any] | None, runs: Sequence[Record]) -> list[Block]:
    """Which point, what it is worth, as a command, and from which others it cannot be told."""
    unit, names = Unit(sweep.metric), wording.short(list(sweep.parameters))
    spread = over_seeds(list(best.by_seed().values()))
    interval = "" if spread.ci95 is None else f", 95 % interval over seeds {unit.interval(spread.ci95)}"
    settings = wording.settings(best.parameters, names) or "the only configuration"
    blocks: list[Block] = [
        Text(f"{best.label}: {settings}.", strong=True),
        Text(f"Mean {sweep.metric} over {wording.seeds(spread.n)}: {unit.said(spread.mean)}{interval}."),
    ]
    if chosen:
        blocks.append(Command(chosen["command"]))
    else:
        words = next(point for point in sweep.planned if point["number"] == best.points[0].number).get("words") or []
        blocks.append(Text("The sweep has not chosen a point yet; this one leads among the finished ones. Its first run:"))
        blocks.append(Command(shlex.join(["python", "-m", "medrl", *words])))
    blocks += [Text(_curse(sweep, unit)), *_tested(sweep, best, chosen, runs, unit)]
    others = rivals(sweep, best)
    return [*blocks, *_rivals(others, unit, names)] if others else blocks


def _curse(sweep: Sweep, unit: Unit) -> str:
    count, seen = len(sweep.configurations), noise(sweep)
    if count == 1:
        return "Nothing was chosen among several: one configuration finished."
    said = (
        f"Its value is optimistic: it is the best of {count} noisy ones, and its noise helped it to win, on the "
        "very rows that chose it. Its interval does not correct for that."
    )
    if seen.by_chance:
        # Blom's approximation (1958) of the expected largest of n normal values.
        luck = NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) * seen.by_chance
        ahead = f"the noise between seeds alone would put the best about {unit.spread(luck)} beyond their mean"
        said += f" Were all {count} alike, {ahead}."
    return said


def _tested(
    sweep: Sweep, best: Configuration, chosen: Mapping[str, Any] | None, runs: Sequence[Record], unit: Unit
) -> Iterator[Block]:
    """What chose the point beside what it reached on the test split."""
    asked = set(chosen.get("test") or []) if chosen else set()
    found = [run for run in runs if run.get("run_id") in asked and (run.get("eval") or {}).get("split") == "test"]
    if not found:
        yield Text(
            "It has not been evaluated on the test split. Until it is, there is no unbiased number of it: run its command, which "
            "trains nothing again."
            if chosen
            else "There is no unbiased number of it until it is chosen and evaluated on the test split."
        )
        return
    mine = best.by_seed()
    rows = [
        _spread_row(f"{sweep.metric}, which chose it", list(mine.values()), [unit.show(value) for value in mine.values()], unit)
    ]
    for name in dict.fromkeys([sweep.metric.split("/", 1)[-1], *(f"{task}/accuracy" for run in found for task in run["tasks"])]):
        shown = Unit(name)
        numbers = [(value, _with_rows(run, name, value, shown)) for run in found if (value := _logged(run, name)) is not None]
        if numbers:
            rows.append(_spread_row(f"test/{name}", [value for value, _ in numbers], [said for _, said in numbers], shown))
    caption = (
        "The chosen point on the rows that chose it, and on the test split, which no point was chosen by. Intervals over seeds "
        "are Student's and speak of other seeds on the same rows; those in brackets after a seed are of its own test rows."
    )
    yield Table(caption, ("Metric", "Seeds", "Mean", "95 % interval over seeds", "Each seed"), rows, WORDS({4}), WORDS({1}))


def _logged(run: Record, name: str) -> float | None:
    """``TASK/NUMBER`` of a record."""
    task, _, number = name.partition("/")
    for kind in ("tasks", "perplexity"):
        if (value := number_or_none(((run.get(kind) or {}).get(task) or {}).get(number))) is not None:
            return value
    return None


def _with_rows(run: Record, name: str, value: float, unit: Unit) -> str:
    """A seed's value with the interval and number of its rows."""
    task, _, number = name.partition("/")
    about = (run.get("tasks") or {}).get(task) or {}
    said = f"seed {run.get('seed')}: {unit.show(value)}"
    return f"{said} {unit.interval(about.get('ci95'))}, n = {about['n']}" if number == "accuracy" and "n" in about else said


def _spread_row(label: str, values: Sequence[float], each: Sequence[str], unit: Unit) -> list[str]:
    spread = over_seeds(values)
    interval = unit.interval(spread.ci95, "one seed: none")
    return [label, str(spread.n), unit.show(spread.mean), interval, "; ".join(each)]


def _rivals(found: Sequence[Rival], unit: Unit, names: Mapping[str, str]) -> Iterator[Block]:
    untold = all_untold(found)
    if not untold:
        yield Text("It is told from every other configuration (corrected p below 0.05).")
    else:
        many = "any other configuration" if len(untold) == len(found) else wording.labels([each.configuration for each in untold])
        yield Text(f"It cannot be told from {many}.", strong=True)
    rows = []
    for rival in found:
        how = f"paired, {rival.paired} seeds" if rival.paired else "pooled spread" if rival.p_value is not None else "no test"
        told = "no" if rival in untold else "yes"
        interval = unit.interval(rival.ci95, signed=True)
        setting = wording.settings(rival.configuration.parameters, names)
        rows.append(
            [
                rival.configuration.label,
                setting,
                unit.difference(rival.difference),
                interval,
                wording.p_value(rival.corrected),
                how,
                told,
            ]
        )
    caption = (
        "The best configuration minus each other. Over common seeds, paired, where there are three or more; else by the pooled "
        "spread between seeds; a single seed allows no test. Intervals are 95 % each and uncorrected. The best was picked by "
        "looking at all, so p is corrected by Bonferroni for all pairs of configurations. “No” does not say that two are alike."
    )
    head = ("Configuration", "Setting", unit.difference_name, "95 % interval", "p, corrected", "Compared", "Told apart")
    yield Table(caption, head, rows, WORDS({1, 5}), folded="" if len(rows) <= 12 else f"All {len(rows)} comparisons")
