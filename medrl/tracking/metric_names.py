"""The numbers that a run logs, by the names that sweeps, W&B and tables use.

``SPLIT/TASK/accuracy`` and its like come from held-out rows, ``train/KEY`` from a training step, ``cost/KEY`` is what it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrl.config.schema import Run
from medrl.evaluation.protocols import evaluated_tasks, generated_tasks, protocol

ANSWERED = ("accuracy", "readable", "mean_credit", "unparsed", "truncated", "mean_tokens")
"""Of a task whose answers are graded; of preference pairs the accuracy alone."""
COST = ("seconds", "tokens", "generated_tokens", "gpu_hours", "peak_memory_gib")


def names(run: Run) -> list[str]:
    """Every name that is known before a run begins; a step of training logs more."""
    return [*while_training(run), *(name for name in _at_the_end(run) if name not in while_training(run))]


def while_training(run: Run) -> list[str]:
    """Of these, the ones that are logged more than once, so that a curve can be followed."""
    if not run.algo.trains:
        return []
    found = ["train/loss"]
    if run.algo.uses_rewards:
        found += ["train/reward", *(f"train/rewards/{key}/mean" for key in run.reward_set.rewards)]
    if run.eval.eval_steps:
        found += [f"validation/{task}/accuracy" for task in generated_tasks(run)]
    return found


def _at_the_end(run: Run) -> list[str]:
    measures = {"generative": ANSWERED, "perplexity": ("perplexity",)}
    found = [
        f"{run.eval.split}/{task}/{measure}"
        for task in evaluated_tasks(run)
        for measure in measures.get(protocol(run, task), ("accuracy",))
    ]
    return [*found, *(f"cost/{key}" for key in COST)]


def values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a finished run's ``metrics.json``."""
    split = metrics["eval"].get("split", "test")  # runs of before there was another
    found = {}
    for task, numbers in {**metrics["tasks"], **metrics.get("perplexity", {})}.items():
        for measure in (*ANSWERED, "perplexity"):
            number = numbers.get(measure)
            if number is not None:
                found[f"{split}/{task}/{measure}"] = float(number["accuracy"] if measure == "readable" else number)
    cost = {**metrics["cost"], "seconds": metrics["train"]["seconds"]}
    return found | {f"cost/{key}": float(cost[key]) for key in COST if key in cost}  # an older run counts less


def of_line(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of ``train/log.jsonl``."""
    return {
        key if key.startswith("validation/") else f"train/{key}": float(value)
        for key, value in line.items()
        if key not in ("step", "time") and isinstance(value, int | float)
    }
