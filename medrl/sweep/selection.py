"""Which configuration a sweep chooses, and the results file that holds what it saw."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from medrl.sweep.file import SweepFile

SCHEMA = 1
"""Of a results file."""
TEST = ("eval.split=test", "eval.every_steps=null")
"""What asks the test split of a run that was asked its validation rows: nothing is trained again."""


@dataclass(frozen=True)
class Chosen:
    """The configuration that did best on the sweep's metric."""

    parameters: dict[str, Any]
    """What tells it from the others, the seed aside."""
    value: float
    """Mean of the metric over its seeds."""
    points: tuple[int, ...]
    """Numbers of its points, one a seed."""


def choose(points: Sequence[Mapping[str, Any]], goal: str) -> Chosen | None:
    """The configuration with the best mean over seeds, of those whose every seed finished; None where there is none.

    Of configurations with the same mean, the one that took the fewest tokens, and of those the first.

    Args:
        points: As a results file lists them; those with the same parameters but ``seed`` are one configuration.
        goal: ``maximize`` or ``minimize``.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault(json.dumps(without_seed(point["parameters"]), sort_keys=True), []).append(point)
    whole = [group for group in groups.values() if all(point["state"] == "finished" for point in group)]
    if not whole:
        return None
    sign = -1 if goal == "maximize" else 1

    def rank(group: Sequence[Mapping[str, Any]]) -> tuple[float, float, int]:
        # Rounded, so that a mean is not better for the order in which it was added up.
        mean = round(sign * fmean(point["value"] for point in group), 12)
        return mean, sum(point["tokens"] for point in group) / len(group), group[0]["number"]

    best = min(whole, key=rank)
    distinct = {point["parameters"].get("seed"): point["number"] for point in reversed(best)}  # a search may draw one twice
    numbers = tuple(sorted(distinct.values()))
    return Chosen(without_seed(best[0]["parameters"]), fmean(point["value"] for point in best), numbers)


def without_seed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a configuration, of which seeds are replicates."""
    return {key: value for key, value in parameters.items() if key != "seed"}


def results(
    sweep: SweepFile,
    extra: Sequence[str],
    *,
    sweep_id: str,
    backend: str,
    points: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    tests: Mapping[str, Mapping[str, Any]] | None,
    workers: int,
    wall_seconds: float,
) -> dict[str, Any]:
    """The content of a results file of kind ``sweep``.

    Args:
        sweep: As its file says it.
        extra: Overrides for every point.
        sweep_id: Ours, or the one that W&B gave.
        backend: ``local`` or ``wandb``.
        points: One entry a point.
        records: Of the finished points, on the validation rows.
        tests: Records of the chosen configuration on the test split, by seed's run id; None while the sweep runs, when nothing
            is chosen.
        workers: Points that run at once.
        wall_seconds: What the sweep took so far.
    """
    from medrl import track

    came_from = track.provenance()
    chosen = choose(points, sweep.metric.goal) if tests is not None else None
    halving = sweep.content.get("early_terminate")
    asked_for = [] if backend == "local" else [f"backend={backend}"]
    listed = {key: sweep.content["parameters"][key] for key in sweep.varying}
    return {
        "schema": SCHEMA,
        "kind": "sweep",
        "name": sweep.name,
        "title": sweep.description or sweep.name,
        "command": shlex.join(["python", "-m", "medrl.sweep", sweep.shown, *asked_for, *extra]),
        "notes": [],
        "sweep": {
            "id": sweep_id,
            "backend": backend,
            "file": sweep.shown,
            "method": sweep.method,
            "metric": {"name": sweep.metric.name, "goal": sweep.metric.goal},
            "parameters": listed,
            "early_terminate": halving,
            "points": list(points),
            "chosen": chosen and _shown(chosen, points, tests or {}),
            "workers": workers,
            "wall_seconds": round(wall_seconds, 1),
            "machine": {key: came_from[key] for key in ("cpu", "cpus", "gpus", "packages")},
        },
        "runs": [*records, *(tests or {}).values()],
    }


def _shown(chosen: Chosen, points: Sequence[Mapping[str, Any]], tests: Mapping[str, Any]) -> dict[str, Any]:
    mine = [point for point in points if point["number"] in chosen.points]
    return {
        "parameters": chosen.parameters,
        "value": chosen.value,
        "seeds": [seed_of(point["words"]) for point in mine],
        "command": shlex.join(["python", "-m", "medrl", *tested(mine[0]["words"])]),
        "test": list(tests),
    }


def tested(words: Sequence[str]) -> list[str]:
    """The overrides that ask the test split of a point's run."""
    replaced = {word.partition("=")[0] for word in TEST}
    return [*(word for word in words if word.partition("=")[0] not in replaced), *TEST]


def seed_of(words: Sequence[str]) -> int:
    """The seed of a point; conf/config.yaml's where it names none."""
    return int(next((word.removeprefix("seed=") for word in words if word.startswith("seed=")), 0))
