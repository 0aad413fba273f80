"""The test split, by which no point was chosen, asked of the configuration that a sweep chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl import results
from medrl.errors import UserError
from medrl.jobs import job, locks
from medrl.jobs.resolved import ResolvedRun, resolve
from medrl.jobs.shutdown import GracefulShutdown
from medrl.sweep import chosen


def asked(
    points: Sequence[Mapping[str, Any]],
    goal: str,
    runs: Path,
    folder: Path,
    *,
    log: Callable[[int], Path],
    again: str,
    stop: GracefulShutdown,
) -> dict[str, Any]:
    """Ask the chosen configuration the test split, each of its seeds, in the same run folders; nothing is trained.

    Several commands on one sweep take turns, and what one has asked costs the next nothing.

    Args:
        points: As a results file lists them, by their numbers.
        goal: ``maximize`` or ``minimize``.
        runs: Folder of the points' runs.
        folder: Of the sweep.
        log: Where a point writes what it says, by its number.
        again: What a user does to go on with the sweep, for messages.
        stop: Listens for signals, which are handed on.

    Returns:
        Records by run id: none where nothing is chosen, not all where a signal came.

    Raises:
        UserError: an evaluation failed.
    """
    found: dict[str, Any] = {}
    best = chosen.choose(points, goal)
    if best is None:
        return found
    (folder / "claims").mkdir(exist_ok=True)
    claim = locks.acquire_when_free(folder / "claims" / "test", lambda: stop.signal is not None)
    if claim is None:
        return found
    with claim:
        for number in best.points:
            mine = resolve([*chosen.tested(points[number]["words"]), f"runs={runs}"])
            if not mine.finished():
                print(f"test     {_shown(mine.overrides)}", flush=True)
                _evaluate(mine, log(number), again, stop)
            if stop.signal is not None:
                break
            record = results.of_run(mine.folder)
            found[record["run_id"]] = record
    return found


def _evaluate(mine: ResolvedRun, log: Path, again: str, stop: GracefulShutdown) -> None:
    """Evaluate one run on the test split.

    Raises:
        UserError: it failed.
    """
    failed = job.run([mine.job(log=log)], stop)
    if failed and stop.signal is None:
        raise UserError(f"`{mine.command}` failed: {failed.last_words()}; mend it and {again}.")


def _shown(words: Sequence[str]) -> str:
    """A run's command, without where it lies."""
    return " ".join(["python -m medrl", *(word for word in words if not word.startswith("runs="))])
