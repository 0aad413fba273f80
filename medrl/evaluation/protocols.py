"""Which held-out tasks a run asks, and in which way."""

from __future__ import annotations

from typing import Literal

from medrl.config.schema import Run
from medrl.evaluation import preferences

Protocol = Literal["generative", "perplexity"] | preferences.Protocol
"""An answer is generated and graded; text is predicted; or of two answers the better one is preferred."""


def protocol(run: Run, name: str) -> Protocol:
    """How a held-out task is asked, which its kind of rows decides, and for preference pairs what the run trains."""
    kind = run.data_mix.tasks[name].row_kind
    if kind == "preference":
        return "pairwise" if run.algo.trains_reward_model else "likelihood"
    return "generative" if kind == "question" else "perplexity"


def evaluated_tasks(run: Run) -> list[str]:
    """The held-out tasks that the run's models can answer: a reward model answers preference pairs alone."""
    return [name for name in run.data_mix.held_out if not run.algo.trains_reward_model or protocol(run, name) == "pairwise"]


def generated_tasks(run: Run) -> list[str]:
    """Those of them that the models answer in words."""
    return [name for name in evaluated_tasks(run) if protocol(run, name) == "generative"]
