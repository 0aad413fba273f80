"""Which configuration a sweep selects by its validation rows, and its evaluation on the test split, which selects nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from medrl.errors import UserError
from medrl.jobs import job, locks
from medrl.jobs.resolved import command, resolve, without_replaced
from medrl.jobs.shutdown import GracefulShutdown
from medrl.table import results

TEST = ("eval.split=test", "eval.eval_steps=null")
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
    """The configuration, points with the same parameters but ``seed``, with the best mean over seeds, of those whose every seed
    finished; None where there is none. Of equal means, the one that took the fewest tokens, and of those the first.
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
    distinct = {point["parameters"].get("seed"): point["number"] for point in reversed(best)}  # a search may sample one twice
    numbers = tuple(sorted(distinct.values()))
    return Chosen(without_seed(best[0]["parameters"]), fmean(point["value"] for point in best), numbers)


def without_seed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a configuration, of which seeds are replicates."""
    return {key: value for key, value in parameters.items() if key != "seed"}


def described(chosen: Chosen, points: Sequence[Mapping[str, Any]], tests: Sequence[str]) -> dict[str, Any]:
    """The choice among the points of a results file as that file has it; ``tests`` are the ids of its tested runs."""
    commands = [point["words"] for point in points if point["number"] in chosen.points]
    seeds = [dict(word.partition("=")[::2] for word in words).get("seed", 0) for words in commands]  # conf/config.yaml has 0
    return {
        "parameters": chosen.parameters,
        "value": chosen.value,
        "seeds": list(map(int, seeds)),
        "command": command(test_overrides(commands[0])),
        "test": list(tests),
    }


def test_overrides(words: Sequence[str]) -> list[str]:
    """The overrides that ask the test split of a point's run."""
    return without_replaced([*words, *TEST])


def test(
    points: Sequence[Mapping[str, Any]], goal: str, runs: Path, folder: Path, *, again: str, shutdown: GracefulShutdown
) -> dict[str, Any]:
    """Evaluate the selected configuration on the test split, each of its seeds, in the same run folders; nothing is trained.
    Several commands on one sweep take turns, and what one has evaluated costs the next nothing.

    Records by run id: none where nothing is selected, not all where a signal came. Raises `UserError` where an evaluation failed.
    """
    records: dict[str, Any] = {}
    best = choose(points, goal)
    (folder / "claims").mkdir(exist_ok=True)
    claim = best and locks.acquire_when_free(folder / "claims" / "test", lambda: shutdown.signal is not None)
    if not best or not claim:
        return records
    with claim:
        for number in best.points:
            words = test_overrides(points[number]["words"])
            run = resolve([*words, f"runs={runs}"])
            if not run.finished():
                print(f"test     {command(words)}", flush=True)
                failed = job.run([run.job(log=folder / "points" / f"{run.folder.name}.log")], shutdown)
                if failed and shutdown.signal is None:
                    raise UserError(f"`{run.command}` failed: {failed.last_words()}; mend it and {again}.")
            if shutdown.signal is not None:
                break
            record = results.of_run(run.folder)
            records[record["run_id"]] = record
    return records
