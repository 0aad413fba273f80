"""What each of several runs changed: every held-out task before and after training, and the reward in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrl.report import phrases
from medrl.table.table import Column, Table

Metrics = Mapping[str, Any]
"""A run's ``metrics.json``."""
COLUMNS = (
    Column("held out"), Column("measure"), Column("n", right=True), Column("before", widest=30), Column("after", widest=30),
    Column("change", widest=50),
)  # fmt: skip


def changes(runs: Mapping[str, Metrics], name: str = "stage") -> Table:
    """A row for each run and task.

    Args:
        runs: Metrics by what the run is called.
        name: What these names are, for the head of their column.
    """
    rows = [(run, *row) for run, metrics in runs.items() for row in _rows(metrics)]
    return Table((Column(name), *COLUMNS), rows, groups=1)


def sources(runs: Mapping[str, Metrics]) -> str:
    """Where the rows of the runs came from."""
    return ", ".join(dict.fromkeys(metrics["source"] for metrics in runs.values()))


def _rows(metrics: Metrics) -> Iterator[tuple[str, ...]]:
    for key, task in metrics["tasks"].items():
        measure = "pair accuracy" if task["protocol"] != "generative" else "accuracy"
        before, after = (f"{100 * each['accuracy']:.1f} % {_interval(each['ci95'], 100)}" for each in (task["base"], task))
        yield key, measure, str(task["n"]), *_changed(before, after, task["change"], "points", 100)
    for key, text in metrics["perplexity"].items():
        before, after = (f"{each['perplexity']:.2f} {_interval(each['ci95'], 1)}" for each in (text["base"], text))
        yield key, "perplexity", str(text["n"]), *_changed(before, after, text["change"], "nats a token", 1)
    first, last = metrics["train"].get("reward", (None, None))
    if first is not None and last is not None:
        yield "(in training)", "reward", "", f"{first:.3f}", f"{last:.3f}", f"{last - first:+.3f}"


def _changed(before: str, after: str, change: Mapping[str, Any] | None, unit: str, scale: float) -> tuple[str, str, str]:
    """Before, after and change; a run that trains nothing has one model and no change."""
    if change is None:
        return after, "", ""
    difference = f"{scale * change['difference']:+.{1 if scale > 1 else 2}f} {unit}"
    return before, after, f"{difference} {_interval(change['ci95'], scale, '+')}, {phrases.p_value(change['p_value'])}"


def _interval(ends: Sequence[float] | None, scale: float, sign: str = "") -> str:
    return f"[{', '.join(f'{scale * end:{sign}.{1 if scale > 1 else 2}f}' for end in ends)}]" if ends else ""
