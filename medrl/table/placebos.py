"""Gain minus placebo: what a run gained above the same run whose rewards know nothing (`medrl.rewards.controls`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medrl.evaluation.settings import Eval
from medrl.report import phrases
from medrl.report.phrases import CHECKPOINT, READABLE, RECIPE, UNKNOWN, Task
from medrl.statistics import paired
from medrl.statistics.metrics import Interval
from medrl.statistics.paired import READINGS
from medrl.table.table import Cell, Column, Table
from medrl.table.uncertainty import Uncertainty, gains, of_change, of_values

Metrics = Mapping[str, Any]
"""A run's ``metrics.json``."""
ALIKE = ("version", "protocol", "scorer", "split", "n", "examples", "samples")
"""What makes two results of a task comparable example by example."""
COLUMNS = (
    Column("task"), Column("placebo"), Column("measure"), Column("n", right=True), Column("gain minus placebo", right=True),
    Column(f"95 %, {CHECKPOINT}", widest=18), Column(f"95 %, {RECIPE}", widest=21), Column("gain", right=True),
    Column("placebo's gain", right=True), Column("seeds"), Column("verdict", widest=40),
)  # fmt: skip
ABOVE, BELOW, NOT_TOLD = "above", "BELOW", "not told apart from"


VERDICTS = [
    "several seeds: by the interval of the recipe, which is not corrected for the number of rows; "
    "one seed: by the interval of this checkpoint and p after Holm for all rows below 0.05"
]


class Arm(NamedTuple):
    """A task of a configuration and of one of its placebos, over the seeds that both have."""

    run: Metrics
    """The one with its own rewards and the first of the seeds."""
    name: str
    """Of the task."""
    control: str
    seeds: tuple[int, ...]
    own: tuple[Task, ...]
    placebo: tuple[Task, ...]

    def read(self) -> tuple[str, ...]:
        """The readings that both have."""
        return tuple(reading for reading in READINGS if all(task.get(reading) for task in (*self.own, *self.placebo)))

    def differences(self, reading: str) -> list[list[float]]:
        """Of each seed and example, the gain minus the placebo's gain."""
        pairs = zip(gains(self.own, reading), gains(self.placebo, reading), strict=True)
        return [[mine - its for mine, its in zip(*pair, strict=True)] for pair in pairs]

    def above(self, reading: str) -> Uncertainty:
        """Gain minus placebo, over seeds; the model before training is the same, so that it lies between -1 and 1."""
        rows = self.differences(reading)
        tested = [paired.of_differences(row) for row in rows]
        own = [Interval(*each["ci95"]) for each in tested]
        found = of_values([each["difference"] for each in tested], own, rows, change=True)
        return found._replace(recipe=found.recipe and Interval(max(-1.0, found.recipe.low), min(1.0, found.recipe.high)))


def arms(records: Collection[Metrics]) -> list[Arm]:
    """Every task and placebo of runs that were asked in the same way; of seeds that only one of them has, nothing is said."""
    found: dict[str, dict[str, dict[int, tuple[Metrics, Task]]]] = {}
    names = {}
    for record in records:
        if record.get("control") is None:
            continue
        for name, task in record["tasks"].items():
            if task.get("change") and "right" in task:
                way = [record["arms"], Eval.asking(record["eval"]), name, *map(task.get, ALIKE)]
                key = json.dumps(way, sort_keys=True)
                names[key] = name
                found.setdefault(key, {}).setdefault(record["control"], {})[record["seed"]] = (record, task)
    return list(_arms(found, names))


def _arms(found: Mapping[str, Mapping[str, Mapping[int, tuple[Metrics, Task]]]], names: Mapping[str, str]) -> Iterator[Arm]:
    for key, by_control in found.items():
        own = by_control.get("none", {})
        for control, placebo in by_control.items():
            seeds = tuple(sorted(set(own) & set(placebo)))
            if control != "none" and seeds:
                parts = (tuple(each[seed][1] for seed in seeds) for each in (own, placebo))
                yield Arm(own[seeds[0]][0], names[key], control, seeds, *parts)


def tested(found: Sequence[Arm]) -> list[dict[str, Any]]:
    """The test of each reading of each arm, corrected by Holm for all arms; empty of an arm with several seeds."""
    made = [{r: paired.of_differences(arm.differences(r)[0]) for r in arm.read()} if len(arm.seeds) == 1 else {} for arm in found]
    paired.correct(made)
    return made


def table(
    records: Collection[Metrics], heads: Sequence[str] = (), label: Callable[[Metrics], Sequence[Cell]] = lambda _: ()
) -> Table:
    """Rows of each configuration, task, placebo and reading; none where no run stands beside its placebo. Leading columns under
    ``heads`` hold the ``label`` of a run with its own rewards.
    """
    found, rows, said = arms(records), list[list[Cell]](), dict[str, list[str]]()
    for arm, test in zip(found, tested(found), strict=True):
        verdicts = []
        for reading in arm.read():
            above = arm.above(reading)
            verdict = _verdict(above, test.get(reading))
            verdicts.append(verdict)
            rows.append([*label(arm.run), *_row(arm, reading, above), f"{verdict} it"])
        where = ", ".join([*map(str, label(arm.run)), arm.name])
        worst = next(word for word in (BELOW, NOT_TOLD, ABOVE) if word in verdicts)
        said.setdefault(worst, []).append(f"{where} ({arm.control})")
    caption = "; ".join(
        ["Gain minus placebo, points", *(f"{word} its placebo: {', '.join(names)}" for word, names in said.items())]
    )
    return Table(
        (*map(Column, heads), *COLUMNS), rows, caption, notes={"Verdicts": VERDICTS} if rows else {}, groups=len(heads) + 1
    )


def _row(arm: Arm, reading: str, above: Uncertainty) -> Iterator[Cell]:
    gain, placebo = (of_change(tasks, reading).mean for tasks in (arm.own, arm.placebo))
    measure = READABLE if reading == READINGS[1] else "accuracy" if phrases.generated(arm.own[0]) else "pair accuracy"
    yield from (arm.name, arm.control, measure, phrases.asked(arm.own[0]))
    yield f"{100 * above.mean:+.1f}"
    yield from (f"[{', '.join(f'{100 * end:+.1f}' for end in ends)}]" if ends else UNKNOWN for ends in above[2:])
    yield from (f"{100 * gain:+.1f}", f"{100 * placebo:+.1f}", ", ".join(map(str, arm.seeds)))


def _verdict(above: Uncertainty, test: Mapping[str, Any] | None) -> str:
    if test is not None:
        return NOT_TOLD if not phrases.clear(test) else ABOVE if test["difference"] > 0 else BELOW
    ends = above.recipe
    return NOT_TOLD if ends is None or ends.low <= 0 <= ends.high else ABOVE if ends.low > 0 else BELOW
