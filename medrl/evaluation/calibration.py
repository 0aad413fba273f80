"""Does the model know when it is right? Its confidence in closed answers, from likelihoods and from several samples.

The likelihood of each option is that of the option as an answer in the asked shape, without a thought, after the ordinary prompt;
the options of an example share a probability of 1. What a model prefers so may differ from what it answers after a thought: the
accuracy of this preference is a number of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from medrl.config.schema import Run
from medrl.data.example import Example
from medrl.data.mix import TrainingRow
from medrl.data.prompts import messages
from medrl.evaluation.evaluate import Lines, Which, held_out, result_files, voted, write_as_made
from medrl.evaluation.protocols import generated_tasks
from medrl.evaluation.shortcuts import closed
from medrl.files import read_jsonl
from medrl.models.generation import fitting_tokens
from medrl.models.likelihood import Measure, NegativeLogLikelihood, reply
from medrl.models.tokenization import Rendering
from medrl.statistics import metrics, reliability
from medrl.statistics.outcomes import Line, by_example
from medrl.tasks.base import Task

COVERAGES = (0.5, 0.8, 0.9, 1.0)
"""Shares of the questions that are answered, for the table of abstention."""
CURVE_POINTS = 20
"""Of the curve of risk against coverage that is kept: at 5 %, 10 %, ... of the questions."""
MEASURES: Mapping[str, Callable[[Any, Any], float]] = {
    "ece": reliability.ece,
    "brier": reliability.brier,
    "aurc": reliability.aurc,
}


class Confident(NamedTuple):
    """Answers, one an example."""

    confidence: list[float]
    right: list[bool]


def files(run: Run, which: Which) -> dict[str, str]:
    """File of the option likelihoods of each task that has some; none unless ``eval.calibration``."""
    if not run.eval.calibration:
        return {}
    found = result_files(run, which)
    return {name: f"{Path(found[name]).stem}-options.jsonl" for name in generated_tasks(run) if _has_options(run, name)}


def _has_options(run: Run, name: str) -> bool:
    task = run.data_mix.tasks[name]
    return closed(task) and not task.answers.ranked and all(map(task.answers.options, held_out(run, name)))


def answer(run: Run, which: Which, model: Any, tokenizer: Any, folder: Path, note: Callable[[str, Path], None]) -> None:
    """Write a line an example with the log-likelihood of each option, in nats; no line is made twice.

    The arguments are those of `evaluate.answer_tasks`.
    """
    for name, file in files(run, which).items():
        if (path := folder / file).exists():
            continue
        task, examples = run.data_mix.tasks[name], held_out(run, name)
        measure = NegativeLogLikelihood(model, run.model.context_tokens, run.eval.batch_tokens or fitting_tokens(model))
        missing = partial(_lines, task, examples, measure, Rendering(tokenizer))
        write_as_made(path, f"options {name}, {which}", len(examples), "examples", missing)
        note(name, path)


def _lines(
    task: Task, examples: Sequence[Example], measure: Measure, rendering: Rendering, done: Collection[int], _: Any
) -> Iterator[Lines]:
    options = [task.answers.options(example) for example in examples]
    groups = [
        [reply(rendering, messages(example, task), shown(task, example, option)) for option in its]
        for example, its in zip(examples, options, strict=True)
    ]
    for batch in measure(groups, done):
        yield {
            position: {
                "id": examples[position].id,
                "gold": examples[position].gold,
                "options": dict(zip(options[position], [-value for value in values], strict=True)),
            }
            for position, values in batch.items()
        }


def shown(task: Task, example: Example, option: str) -> str:
    """An option as a completion that answers without a thought, as supervised training shows a row without a rationale."""
    return TrainingRow(replace(example, gold=option, rationale=""), task).demonstration


def by_likelihood(lines: Sequence[Line]) -> Confident:
    """The likeliest option of each example, and its share of the options' probability; the first shown of equals."""
    found = Confident([], [])
    for line in lines:
        best = max(line["options"], key=line["options"].__getitem__)
        top = line["options"][best]
        found.confidence.append(1 / sum(math.exp(each - top) for each in line["options"].values()))
        found.right.append(best == line["gold"])
    return found


def by_samples(lines: Sequence[Line]) -> Confident:
    """Self-consistency (Wang et al. 2022): the majority vote, and its share of all samples; where none votes, 0 and wrong."""
    found = Confident([], [])
    for part in by_example(lines):
        vote = voted(part)
        found.confidence.append(vote.votes / len(part) if vote else 0.0)
        found.right.append(vote is not None and vote.right)
    return found


def summary(run: Run, name: str, folder: Path) -> dict[str, Any]:
    """``calibration`` of one task, by each source of confidence: ``likelihood``, and ``self_consistency`` of several samples."""
    found: dict[str, Any] = {}
    whiches: tuple[Which, Which] = ("base", "trained" if run.algo.trains else "base")
    if name in files(run, "base"):
        found["likelihood"] = _both(run, *(by_likelihood(read_jsonl(folder / files(run, which)[name])) for which in whiches))
    if run.eval.calibration and run.eval.samples > 1 and closed(run.data_mix.tasks[name]):
        read = (read_jsonl(folder / result_files(run, which)[name]) for which in whiches)
        found["self_consistency"] = _both(run, *map(by_samples, read))
    return found


def _both(run: Run, before: Confident, after: Confident) -> dict[str, Any]:
    change = {
        key: {
            "difference": of(*after) - of(*before),
            "ci95": (ends := reliability.paired_interval(of, before, after)) and list(ends),
        }
        for key, of in MEASURES.items()
    }
    return {**_numbers(after), "base": _numbers(before), "change": change if run.algo.trains else None}


def _numbers(answers: Confident) -> dict[str, Any]:
    n = len(answers.right)
    every = reliability.risks(*answers)
    steps = sorted({max(1, math.ceil(n * step / CURVE_POINTS)) for step in range(1, CURVE_POINTS + 1)})
    return {
        "n": n,
        "accuracy": sum(answers.right) / n,
        "ci95": list(metrics.wilson(sum(answers.right), n)),
        "mean_confidence": sum(answers.confidence) / n,
        **{key: of(*answers) for key, of in MEASURES.items()},
        "bins": [list(each) for each in reliability.bins(*answers)],
        "risk_coverage": [[step / n, float(every[step - 1])] for step in steps],
        "abstention": {f"{coverage:g}": 1 - reliability.risk_at(coverage, *answers) for coverage in COVERAGES},
    }
