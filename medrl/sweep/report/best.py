"""The section on the selected configuration: its command, what its value is worth, and what it does not differ from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from medrl.statistics.metrics import over_seeds
from medrl.sweep.report import formatting
from medrl.sweep.report.document import Block, Command, Text, table
from medrl.sweep.report.formatting import Unit
from medrl.sweep.report.noise import Rival, noise, rivals, undistinguished
from medrl.sweep.report.results import Configuration, Sweep, number_or_none

Record = Mapping[str, Any]


def best_configuration(
    sweep: Sweep, best: Configuration, chosen: Mapping[str, Any] | None, runs: Sequence[Record]
) -> list[Block]:
    """Which point, what it is worth, as a command, and from which others it cannot be told."""
    unit, names = Unit(sweep.metric), formatting.short_names(list(sweep.parameters))
    spread = over_seeds(list(best.by_seed().values()))
    interval = "" if spread.ci95 is None else f", 95 % interval over seeds {unit.interval(spread.ci95)}"
    settings = formatting.settings(best.parameters, names) or "the only configuration"
    blocks: list[Block] = [
        Text(f"{best.label}: {settings}.", strong=True),
        Text(f"Mean {sweep.metric} over {formatting.seeds(spread.n)}: {unit.with_unit(spread.mean)}{interval}."),
    ]
    if chosen:
        blocks.append(Command(chosen["command"]))
    else:
        words = next(point for point in sweep.planned if point["number"] == best.points[0].number).get("words") or []
        blocks.append(
            Text("The sweep has not selected a configuration yet; this one leads among the finished ones. Its first run:")
        )
        blocks.append(Command(shlex.join(["python", "-m", "medrl", *words])))
    blocks += [Text(_curse(sweep, unit)), *_tested(sweep, best, chosen, runs, unit)]
    others = rivals(sweep, best)
    return [*blocks, *_rivals(others, unit, names)] if others else blocks


def _curse(sweep: Sweep, unit: Unit) -> str:
    count, seen = len(sweep.configurations), noise(sweep)
    if count == 1:
        return "One configuration finished, so nothing was selected among several."
    bias = (
        f"Its value is biased upwards (winner's curse): the same validation rows that measured all {count} configurations "
        "selected it. Its interval does not correct for that."
    )
    if not seen.by_chance:
        return bias
    # Blom's approximation (1958) of the expected largest of n normal values.
    luck = NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) * seen.by_chance
    return (
        f"{bias} If all {count} were equally good, the noise between seeds alone would put the best about {unit.spread(luck)} "
        "ahead of their mean."
    )


def _tested(
    sweep: Sweep, best: Configuration, chosen: Mapping[str, Any] | None, runs: Sequence[Record], unit: Unit
) -> Iterator[Block]:
    """What selected the point beside what it reached on the test split."""
    asked = set(chosen.get("test") or []) if chosen else set()
    found = [run for run in runs if run.get("run_id") in asked and (run.get("eval") or {}).get("split") == "test"]
    if not found:
        yield Text(
            "It has not been evaluated on the test split, so that there is no unbiased number of it: run its command, which "
            "trains nothing again."
            if chosen
            else "There is no unbiased number of it until it is selected and evaluated on the test split."
        )
        return
    mine = best.by_seed()
    rows = [
        _spread_row(
            f"{sweep.metric}, which selected it", list(mine.values()), [unit.show(value) for value in mine.values()], unit
        )
    ]
    for name in dict.fromkeys([sweep.metric.split("/", 1)[-1], *(f"{task}/accuracy" for run in found for task in run["tasks"])]):
        shown = Unit(name)
        numbers = [(value, _with_rows(run, name, value, shown)) for run in found if (value := _logged(run, name)) is not None]
        if numbers:
            rows.append(_spread_row(f"test/{name}", [value for value, _ in numbers], [text for _, text in numbers], shown))
    caption = (
        "The selected configuration on the rows that selected it, and on the test split, which selected nothing. Intervals over "
        "seeds are Student's: they cover other seeds on the same rows. Those in brackets after a seed cover other rows."
    )
    yield table(caption, ("Metric", "Seeds", "Mean", "95 % interval over seeds", "Each seed"), rows, {4}, {1})


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
    text = f"seed {run.get('seed')}: {unit.show(value)}"
    return f"{text} {unit.interval(about.get('ci95'))}, n = {about['n']}" if number == "accuracy" and "n" in about else text


def _spread_row(label: str, values: Sequence[float], each: Sequence[str], unit: Unit) -> list[str]:
    spread = over_seeds(values)
    interval = unit.interval(spread.ci95, "one seed: none")
    return [label, str(spread.n), unit.show(spread.mean), interval, "; ".join(each)]


def _rivals(found: Sequence[Rival], unit: Unit, names: Mapping[str, str]) -> Iterator[Block]:
    unclear = undistinguished(found)
    if not unclear:
        yield Text("It differs significantly from every other configuration (corrected p below 0.05).")
    else:
        many = (
            "any other configuration"
            if len(unclear) == len(found)
            else formatting.labels([each.configuration for each in unclear])
        )
        yield Text(f"It does not differ significantly from {many}.", strong=True)
    rows = []
    for rival in found:
        how = f"paired, {rival.paired} seeds" if rival.paired else "pooled spread" if rival.p_value is not None else "no test"
        setting, interval = formatting.settings(rival.configuration.parameters, names), unit.interval(rival.ci95, signed=True)
        numbers = [unit.difference(rival.difference), interval, formatting.p_value(rival.corrected)]
        rows.append([rival.configuration.label, setting, *numbers, how, "no" if rival in unclear else "yes"])
    caption = (
        "The best configuration minus each other. Over common seeds, paired, where there are three or more; else by the pooled "
        "spread between seeds; a single seed allows no test. Intervals are 95 % each and uncorrected. The best was selected by "
        "looking at all, so p is corrected by Bonferroni for all pairs of configurations. “No” does not mean that two are equal."
    )
    head = ("Configuration", "Setting", unit.difference_name, "95 % interval", "p, corrected", "Compared", "Significant")
    yield table(caption, head, rows, {1, 5}, folded="" if len(rows) <= 12 else f"All {len(rows)} comparisons")
