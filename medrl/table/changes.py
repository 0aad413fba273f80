"""What each of several runs changed: every held-out task before and after training, and the reward in training."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from medrl.report import phrases
from medrl.report.phrases import CHECKPOINT, READABLE, RECIPE, UNKNOWN
from medrl.statistics import paired
from medrl.table.table import Column, Table

Metrics = Mapping[str, Any]
"""A run's ``metrics.json``."""
COLUMNS = (
    Column("held out"), Column("measure"), Column("n", right=True), Column("before", widest=30), Column("after", widest=30),
    Column("change", widest=50),
)  # fmt: skip
PARTS = Column("of it", widest=60)
"""Format and ability; not there where the shape changed nothing."""

NOTES = {
    "Intervals": [f"95 %, of {CHECKPOINT}; of {RECIPE}: {UNKNOWN}"],
    "Holm": ["p after correction for all changes of this table, each reading by itself; not there where nothing is corrected"],
}
"""What stands below such a table."""


def changes(runs: Mapping[str, Metrics], name: str = "stage") -> Table:
    """A row for each run and task, of metrics by what the run is called; ``name`` heads their column."""
    rows = [(run, *row) for run, metrics in corrected(runs).items() for row in _rows(metrics)]
    if any(row[-1] for row in rows):
        return Table((Column(name), *COLUMNS, PARTS), rows, groups=1, notes=NOTES)
    return Table((Column(name), *COLUMNS), [row[:-1] for row in rows], groups=1, notes=NOTES)


def corrected(runs: Mapping[str, Metrics]) -> Mapping[str, Metrics]:
    """The same runs with the p values of their changes corrected by Holm for all of one table, each reading by itself."""
    found = {name: copy.deepcopy(dict(metrics)) for name, metrics in runs.items()}
    tasks = [task for metrics in found.values() for part in ("tasks", "perplexity") for task in metrics.get(part, {}).values()]
    paired.correct([task for task in tasks if task["protocol"] != "pairwise"])
    return found


def sources(runs: Mapping[str, Metrics]) -> str:
    """Where the rows of the runs came from."""
    return ", ".join(dict.fromkeys(metrics["source"] for metrics in runs.values()))


def _rows(metrics: Metrics) -> Iterator[tuple[str, ...]]:
    for key, task in {**metrics["tasks"], **metrics["perplexity"]}.items():
        text = task["protocol"] == "perplexity"
        measure = "perplexity" if text else "accuracy" if phrases.generated(task) else "pair accuracy"
        how = ("perplexity", 1, ".2f") if text else ("accuracy", 100, ".1f", " %")
        before, after = (_number(each, *how) for each in (task["base"], task))
        # A run that trains nothing has one model and no change; a reward model has no head before training.
        compared = bool(task["change"]) and task["protocol"] != "pairwise"
        said = phrases.change(task) if compared else ""
        parts = phrases.parts_of(task["change"]) if compared else ""
        yield key, measure, str(task["n"]), *((before, after) if compared else (after, "")), said, parts
        for name, found in task.get("against", {}).items():
            reference = f"{100 * found['accuracy']:.1f} % ({name.replace('_', ' ')})"
            yield key, f"{measure}, against", str(task["n"]), reference, after, phrases.change({**task, "change": found}), ""
        if "readable" in task:
            before, after = (_number(each["readable"], *how) for each in (task["base"], task))
            shown = (before, after) if task["change"] else (after, "")
            said = phrases.change(task, "readable_change")
            yield key, READABLE, str(task["n"]), *shown, said, phrases.parts_of(task.get("readable_change"))
    first, last = metrics["train"].get("reward", (None, None))
    if first is not None and last is not None:
        yield "(in training)", "reward", "", f"{first:.3f}", f"{last:.3f}", f"{last - first:+.3f}", ""


def _number(numbers: Metrics, name: str, scale: float, spec: str, unit: str = "") -> str:
    ends = ", ".join(f"{scale * end:{spec}}" for end in numbers["ci95"] or ())
    return f"{scale * numbers[name]:{spec}}{unit}" + (f" [{ends}]" if ends else "")
