"""Models beside one another on the same examples: one that was trained here beside those that are only asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from medrl.evaluation.settings import Eval
from medrl.report import phrases
from medrl.report.phrases import CHECKPOINT, READABLE, Task
from medrl.statistics import paired
from medrl.statistics.paired import READINGS
from medrl.table.placebos import ALIKE
from medrl.table.table import Cell, Column, Table
from medrl.table.uncertainty import by_example

Metrics = Mapping[str, Any]
"""A run's ``metrics.json``."""
COLUMNS = (
    Column("task"), Column("model", widest=36), Column("against", widest=36), Column("measure"), Column("n", right=True),
    Column("model's", right=True), Column("the other's", right=True), Column("difference", widest=44), Column("test", widest=44),
    Column("verdict"),
)  # fmt: skip
ABOVE, BELOW, NOT_TOLD = "above", "BELOW", "not told apart"
NOTES = [
    f"95 %, of {CHECKPOINT}; over several seeds, of their mean",
    "Holm: p after correction for all pairs of this table, each reading by itself; above or below: Holm under 0.05",
]


class Model(NamedTuple):
    """Runs of one configuration that were asked one task, over their seeds."""

    runs: tuple[Metrics, ...]
    tasks: tuple[Task, ...]

    @property
    def trained(self) -> bool:
        """Whether it was trained here, and not only asked."""
        return bool(self.tasks[0]["change"])

    def rights(self, reading: str) -> list[float]:
        """Of each example the share right, as a mean over seeds; empty where some seed does not say it of the same examples."""
        parts = self.tasks if reading == READINGS[0] else [task.get("readable", {}) for task in self.tasks]
        return [fmean(each) for each in zip(*by_example(self.tasks, parts), strict=True)]


class Pair(NamedTuple):
    """Two models that were asked the same examples of a task."""

    task: str
    model: Model
    other: Model

    def tested(self) -> dict[str, dict[str, Any]]:
        """The test of each reading that both have: the first model's right answers minus the other's."""
        found = {}
        for reading in READINGS:
            mine, its = (each.rights(reading) for each in (self.model, self.other))
            if mine and its:
                found[reading] = paired.of_differences([a - b for a, b in zip(mine, its, strict=True)])
        return found

    def otherwise(self) -> str:
        """In what the two were not asked alike; empty where in nothing."""
        first, second = (Eval.asking(each.runs[0]["eval"]) for each in (self.model, self.other))
        differing = [key for key in {**first, **second} if first.get(key) != second.get(key)]
        return ", ".join(f"{key} {first.get(key)} and {second.get(key)}" for key in differing)


def pairs(records: Collection[Metrics]) -> list[Pair]:
    """Each model that was trained here with each that is only asked; where none was trained, the first with each of the others.

    Nothing of runs that were all trained: what each gained stands in other tables. Placebos are no models to be compared.
    """
    found: dict[str, dict[str, list[tuple[Metrics, Task]]]] = {}
    names = {}
    for record in records:
        for name, task in record["tasks"].items() if record.get("control") in (None, "none") else ():
            if task["protocol"] == "generative" and "right" in task and task.get("examples"):
                key = json.dumps([name, record["eval"].get("split"), record["synthetic"], *map(task.get, ALIKE)])
                names[key] = name
                found.setdefault(key, {}).setdefault(record["family"], []).append((record, task))
    return [pair for key, models in found.items() for pair in _pairs(names[key], models.values())]


def _pairs(name: str, models: Collection[Sequence[tuple[Metrics, Task]]]) -> Iterator[Pair]:
    made = [Model(*map(tuple, zip(*members, strict=True))) for members in models]
    asked = [model for model in made if not model.trained]
    trained = [model for model in made if model.trained] or asked[:1]
    for model, other in product(trained, asked):
        if model is not other:
            yield Pair(name, model, other)


def table(records: Collection[Metrics], label: Callable[[Metrics], str]) -> Table:
    """Rows of each task, pair and reading of finished runs; none where nothing can be paired. ``label`` names a run's model."""
    found = pairs(records)
    tests = [pair.tested() for pair in found]
    paired.correct(tests)
    rows = [row for pair, tested in zip(found, tests, strict=True) for row in _rows(pair, tested, label)]
    said = dict.fromkeys(
        f"{label(pair.model.runs[0])} and {label(pair.other.runs[0])} were not asked alike: {how}"
        for pair in found
        if (how := pair.otherwise())
    )
    notes = {"Pairs": [*NOTES, *said]} if rows else {}
    return Table(COLUMNS, rows, "Side by side, on the same examples", notes=notes, groups=1)


def _rows(pair: Pair, tested: Mapping[str, Mapping[str, Any]], label: Callable[[Metrics], str]) -> Iterator[list[Cell]]:
    names = [label(each.runs[0]) for each in (pair.model, pair.other)]
    for reading, test in tested.items():
        verdict = NOT_TOLD if not phrases.clear(test) else ABOVE if test["difference"] > 0 else BELOW
        shares = [f"{100 * fmean(each.rights(reading)):.1f} %" for each in (pair.model, pair.other)]
        measure = READABLE if reading == READINGS[1] else "accuracy"
        counted = f"{phrases.p_values(test)} ({test['test']}: {test['gained']} to {test['lost']})"
        about = [pair.task, *names, measure, phrases.asked(pair.model.tasks[0])]
        yield [*about, *shares, phrases.points(test), counted, verdict]
