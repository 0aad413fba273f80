"""Whether a sweep can run, seen before anything does: every option it sets, the metric it optimizes, what it is asked beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from medrl.config import compose, suggest
from medrl.config.schema import Run
from medrl.errors import ConfigError, Problem
from medrl.jobs.resolved import ResolvedRun, resolve
from medrl.sweep.spec import Spec
from medrl.tracking import metric_names

MOST_POINTS = 1000
"""A grid of more is checked at points that show each value once, and the rest as they come."""

NOT_FOR_A_SWEEP = {
    "force": "would train finished points again; remove the sweep's folder and the runs to start over",
    "-m": "is for grids of one command; the sweep file lists the values",
}


resolved = cache(resolve)
"""A point, composed and checked once by a process: what `check` has seen is not composed again when it starts."""


def point(spec: Spec, values: Mapping[str, Any], runs: Path) -> ResolvedRun:
    """The run of a point."""
    return resolved((*spec.overrides_of(values), f"runs={runs}"))


def check(spec: Spec, runs: Path, *, planned: bool = False) -> None:
    """Check all points of a sweep, or its corners where it has too many; ``planned`` ones may be for another machine's GPU.
    Raises `ConfigError` with every mistake.
    """
    problems = list(_override_mistakes(spec))
    overrides = [word for word in spec.overrides if "=" in word and not word.startswith("-")]
    spec = replace(spec, overrides=(*overrides, *(["dry_run=true"] if planned else [])))
    whole = spec.method == "grid" and spec.num_points <= MOST_POINTS
    points = spec.grid() if whole else spec.corners()
    with compose.kept_apart_from_values():
        for values in points:
            try:
                point(spec, values, runs)
            except ConfigError as error:
                problems += [_where(problem, spec) for problem in error.problems]
    if not problems:
        problems += metric_mistakes(spec, point(spec, points[0], runs).run)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _where(problem: Problem, spec: Spec) -> Problem:
    """The same, its file named where the option is set there."""
    on_the_line, fixed = ([word.partition("=")[0] for word in words] for words in (spec.overrides, spec.fixed))
    in_the_file = any(f"{problem.key}.".startswith(f"{key}.") for key in (*spec.parameters, *fixed))
    shown_there = in_the_file and problem.key not in on_the_line
    return Problem(f"{spec.path}: {problem.key}", problem.message) if shown_there else problem


def _override_mistakes(spec: Spec) -> Iterator[Problem]:
    """What a command line may not say of a sweep's points."""
    for word in spec.overrides:
        key, sign, _ = word.partition("=")
        if word.startswith("-") or not sign:
            advice = "is no override; write KEY=VALUE for every point, or backend=, workers=, runs=, results="
            yield Problem(word, NOT_FOR_A_SWEEP.get(word, advice))
        elif key.lstrip("+~") in spec.varying:
            yield Problem(key, f"is what {spec.path} varies; change it there, or write 'parameters.{key}={{values: [...]}}'")
        elif key in NOT_FOR_A_SWEEP:
            yield Problem(key, NOT_FOR_A_SWEEP[key])


def metric_mistakes(spec: Spec, run: Run) -> Iterator[Problem]:
    """Whether the metric is one that a search may look at, that is logged, and logged in time."""
    name, key = spec.metric.name, f"{spec.path}: metric.name"
    known = [metric for metric in metric_names.names(run) if not metric.startswith("test/")]
    if name.startswith("test/"):
        instead = "validation/" + name.removeprefix("test/")
        yield Problem(key, f"is {name}: to choose by the test split is to peek; write {instead}")
    elif name not in known:
        yield Problem(key, f"is {name}, which no run of this sweep logs; {suggest.nearest(name, known)}")
    elif spec.early_terminate and name not in metric_names.while_training(run):
        advice = "set eval.eval_steps" if name.startswith("validation/") else "choose one of train/ or validation/"
        yield Problem(f"{spec.path}: early_terminate", f"needs {name} while training, when it is not logged; {advice}")
