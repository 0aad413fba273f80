"""What is asked of the models beside the held-out tasks where ``eval`` says so: other ways to ask, and likelihoods of options."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from medrl.config.schema import Run
from medrl.evaluation import calibration, evaluate, robustness

Which = Literal["base", "trained"]


def missing(run: Run, which: Which, folder: Path) -> bool:
    """Whether any of it still has to be asked."""
    likelihoods = any(not (folder / file).exists() for file in calibration.files(run, which).values())
    return likelihoods or any(evaluate.missing(variant.run, which, folder) for variant in robustness.every(run))


def answer(run: Run, which: Which, model: Any, tokenizer: Any, folder: Path) -> None:
    """Ask it; the arguments are those of `evaluate.answer_tasks`."""
    for variant in robustness.every(run):
        evaluate.answer_tasks(variant.run, which, model, tokenizer, folder)
    calibration.answer(run, which, model, tokenizer, folder)


def summary(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """``robustness`` and ``calibration`` of one task; a part that was not asked is left out."""
    parts = {"robustness": robustness.summary(run, name, folder), "calibration": calibration.summary(run, name, folder)}
    return {key: found for key, found in parts.items() if found}
