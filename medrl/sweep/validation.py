"""Whether a sweep can run, seen before anything does: every option it sets, the metric it optimises, what it is asked beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medrl import build, compose, logged
from medrl.config import Run
from medrl.errors import ConfigError, Problem
from medrl.sweep.file import SweepFile

MOST_POINTS = 64
"""A grid of more is checked at points that show each value once, and the rest as they come."""

NOT_FOR_A_SWEEP = {
    "force": "would train finished points again; remove the sweep's folder and the runs to start over",
    "name": "would give all sweeps' runs one name; leave it out",
    "-m": "is for grids of one command; the sweep file lists the values",
}


def check(sweep: SweepFile, extra: Sequence[str]) -> None:
    """Check all points of a sweep, or its corners where they are many or cannot be counted.

    Args:
        sweep: As its file says it.
        extra: Overrides for every point.

    Raises:
        ConfigError: with every mistake there is.
    """
    problems = list(_extra_mistakes(sweep, extra))
    words = [said for said in extra if "=" in said and not said.startswith("-")]
    counted = sweep.method == "grid" and sweep.points() <= MOST_POINTS
    for values in sweep.grid() if counted else sweep.corners():
        try:
            compose.check_command_line(sweep.words(values, words))
        except ConfigError as error:
            problems += [_where(problem, sweep, words) for problem in error.problems]
    if not problems:
        for values in sweep.corners()[:1]:
            problems += metric_mistakes(sweep, build.check(compose.tree(sweep.words(values, words))))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _where(problem: Problem, sweep: SweepFile, extra: Sequence[str]) -> Problem:
    """The same, its file named where the option is said there."""
    said = {word.partition("=")[0] for word in extra}
    inside = problem.key not in said and any(_about(problem.key, key) for key in (*sweep.parameters, *_keys(sweep.fixed)))
    return Problem(f"{sweep.path}: {problem.key}", problem.message) if inside else problem


def _keys(words: Sequence[str]) -> list[str]:
    return [word.partition("=")[0] for word in words]


def _about(key: str, said: str) -> bool:
    return key == said or key.startswith(f"{said}.")


def _extra_mistakes(sweep: SweepFile, extra: Sequence[str]) -> Iterator[Problem]:
    """What a command line may not say of a sweep's points."""
    for said in extra:
        key, sign, _ = said.partition("=")
        if said.startswith("-") or not sign:
            yield Problem(said, "is no override; write KEY=VALUE for every point, or backend=, workers=, runs=, results=")
        elif key.lstrip("+~") in sweep.varying:
            yield Problem(key, f"is what {sweep.path} varies; change it there")
        elif key in NOT_FOR_A_SWEEP:
            yield Problem(key, NOT_FOR_A_SWEEP[key])


def metric_mistakes(sweep: SweepFile, run: Run) -> Iterator[Problem]:
    """Whether the metric is one that a search may look at, that is logged, and logged in time."""
    name, key = sweep.metric.name, f"{sweep.path}: metric.name"
    known = [metric for metric in logged.names(run) if not metric.startswith("test/")]
    if name.startswith("test/"):
        instead = "validation/" + name.removeprefix("test/")
        yield Problem(key, f"is {name}: to choose by the test split is to peek; write {instead}")
    elif name not in known:
        yield Problem(key, f"is {name}, which no run of this sweep logs; {build.nearest(name, known)}")
    elif sweep.early_terminate and name not in logged.while_training(run):
        advice = "set eval.every_steps" if name.startswith("validation/") else "choose one of train/ or validation/"
        yield Problem(f"{sweep.path}: early_terminate", f"needs {name} while training, when it is not logged; {advice}")
