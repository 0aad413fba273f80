"""All that a run asks of its models: the held-out tasks, other ways to ask them, and likelihoods of options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from medrl.config.schema import Run
from medrl.evaluation import calibration, evaluate, robustness
from medrl.evaluation.evaluate import Which

Note = Callable[[Run, str, Path], None]
"""Told of each file of results as soon as it is whole: the run that it belongs to, the task, the file."""


def asked(run: Run) -> list[Run]:
    """The run, and for each other way to ask a task the run with this way as its only task."""
    return [run, *(variant.run for variant in robustness.every(run))]


def files(run: Run, which: Which) -> Iterator[tuple[Run, str, str]]:
    """Every file of results: the run of `asked` that it belongs to, its task, its name."""
    for each in asked(run):
        yield from ((each, name, file) for name, file in evaluate.result_files(each, which).items())
    yield from ((run, name, file) for name, file in calibration.files(run, which).items())


def missing(run: Run, which: Which, folder: Path) -> bool:
    """Whether anything still has to be asked."""
    return any(not (folder / file).exists() for *_, file in files(run, which))


def missing_answers(run: Run, which: Which, folder: Path) -> int:
    """About how many lines still have to be written."""
    lacking = (each for each in files(run, which) if not (folder / each[2]).exists())
    return sum(len(evaluate.held_out(each, name)) * each.eval.samples for each, name, _ in lacking)


def answer(run: Run, which: Which, model: Any, tokenizer: Any, folder: Path, note: Note) -> None:
    """Ask it; the first arguments are those of `evaluate.answer_tasks`."""
    for each in asked(run):
        evaluate.answer_tasks(each, which, model, tokenizer, folder, partial(note, each))
    calibration.answer(run, which, model, tokenizer, folder, partial(note, run))


def summary(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """``robustness`` and ``calibration`` of one task; a part that was not asked is left out."""
    parts = {"robustness": robustness.summary(run, name, folder), "calibration": calibration.summary(run, name, folder)}
    return {key: found for key, found in parts.items() if found}
