"""What a run logs, by name: the same names in ``train/log.jsonl``, on W&B and in a sweep's metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrl.config import Run

OF_A_TASK = ("accuracy", "mean_credit", "unparsed", "truncated", "mean_tokens", "perplexity")
NO_METRICS = ("step", "time")
"""Keys of a log line that place it."""


def names(run: Run) -> list[str]:
    """Every metric of the held-out tasks that a run logs."""
    return [f"test/{task}/{metric}" for task in run.data_mix.held_out for metric in OF_A_TASK]


def values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of a finished run, from its ``metrics.json``."""
    split = metrics["eval"].get("split", "test")
    found = {
        f"{split}/{name}/{metric}": task.get(metric)
        for name, task in {**metrics["tasks"], **metrics.get("perplexity", {})}.items()
        for metric in OF_A_TASK
    }
    found |= {f"cost/{name}": value for name, value in metrics["cost"].items()}
    return _numbers({**found, "cost/seconds": metrics["train"]["seconds"]})


def of_line(line: Mapping[str, Any]) -> dict[str, float]:
    """Those of a line of ``train/log.jsonl``."""
    return _numbers(
        {name if "/" in name and name.startswith("validation/") else f"train/{name}": value for name, value in line.items()}
        | {f"train/{name}": None for name in NO_METRICS}
    )


def _numbers(named: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in named.items() if isinstance(value, int | float)}
