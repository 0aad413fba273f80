"""Rows by how often the model is right before training: what is too easy or too hard is left out, and easy rows may come first.

Of a row whose answers are all right or all wrong, completions that are compared with each other teach nothing. DAPO leaves such
prompts out while it trains (Yu et al. 2025, arXiv 2503.14476, section 3.2: ``dynamic_sampling_rounds``); Kimi k1.5 measures
each prompt's pass rate once, before training, and begins with easy ones (Kimi Team 2025, arXiv 2501.12599, sections 2.1 and 2.3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrl.algos.base import Job, SamplingAlgo
from medrl.algos.samples import Sample, lines_of, sampled
from medrl.errors import UserError
from medrl.files import read_jsonl
from medrl.training.distributed import rank

if TYPE_CHECKING:
    from medrl.data.mix import TrainingRow
    from medrl.models.generation import Generated

FILE = "pass_rate.jsonl"
"""In ``train/``: each answer of the model before training to a training row, and whether it is right."""


def chosen(job: Job, algo: SamplingAlgo) -> list[TrainingRow]:
    """The rows of a job that an algorithm trains on, in its order.

    Each is answered ``pass_rate_samples`` times before training, as completions are drawn in training, by the engine of
    ``hardware.rollout``. A placebo reads the pass rate of its own labels (`RewardSet.right`), so that which rows it keeps tells
    nothing of the golds either. Raises `UserError` where too few rows are left for a step.
    """
    asked = list({row.example: row for row in job.rows}.values())  # one that is drawn again is asked once
    samples = sampled(
        job, asked, job.folder / FILE, algo.pass_rate_samples, algo.sampling(job.run.seed), _graded, key="pass_rate/"
    )
    found = rates(samples)
    by_example = {row.example: found.get(place) for place, row in enumerate(asked)}
    if rank() == 0:
        print("\n".join(_described(summary(samples, algo))), flush=True)
    passes: Counter[Any] = Counter()
    kept = []
    for row in job.rows:
        rate = by_example[row.example]
        if rate is not None and within(rate, algo):
            kept.append((passes[row.example], -rate, row))
            passes[row.example] += 1
    if len(kept) < algo.least_rows:
        raise UserError(
            f"algo.pass_rate={list(algo.pass_rate or (0, 1))} leaves {len(kept)} of {len(job.rows)} training rows, and a step "
            f"takes {algo.least_rows}; {job.folder / FILE} has every answer. Widen it, raise data_mix.rows, or write "
            "algo.pass_rate=null."
        )
    if algo.easy_first:
        kept.sort(key=lambda each: each[:2])  # rows of one rate stay in the order in which they were drawn
    return [row for *_, row in kept]


def rates(samples: Sequence[Sample]) -> dict[int, Fraction]:
    """The share of right answers of each row, by its place; without rows of which a judge left all answers open."""
    right, graded = Counter[int](), Counter[int]()
    for each in samples:
        if each["right"] is not None:
            graded[each["row"]] += 1
            right[each["row"]] += each["right"]
    return {row: Fraction(right[row], count) for row, count in graded.items()}


def within(rate: Fraction, algo: SamplingAlgo) -> bool:
    """Whether a row of this pass rate is trained on. The ends are decimal numbers, and 0.6 is 3 of 5."""
    low, high = (Fraction(str(end)) for end in algo.pass_rate or (0, 1))
    return low <= rate <= high


def summary(samples: Sequence[Sample], algo: SamplingAlgo) -> dict[str, Any]:
    """What was asked, and by task how many rows have how many answers right: ``metrics.json`` has it under ``train``."""
    found, tasks = rates(samples), {each["row"]: each["task"] for each in samples}
    by_task: dict[str, dict[str, Any]] = {}
    for row, task in tasks.items():
        of_task = by_task.setdefault(task, {"rows": 0, "kept": 0, "ungraded": 0, "histogram": [0] * (algo.pass_rate_samples + 1)})
        of_task["rows"] += 1
        if (rate := found.get(row)) is None:
            of_task["ungraded"] += 1
        else:
            of_task["kept"] += within(rate, algo)
            of_task["histogram"][round(rate * algo.pass_rate_samples)] += 1
    return {
        "samples": algo.pass_rate_samples,
        "pass_rate": algo.pass_rate and list(algo.pass_rate),
        "easy_first": algo.easy_first,
        "completions": len(samples),
        "tokens": sum(each["tokens"] for each in samples),
        "tasks": dict(sorted(by_task.items())),
    }


def of_folder(algo: Any, train: Path) -> dict[str, Any] | None:
    """`summary` of what ``train/`` of a run holds; None where nothing was asked, or not all yet."""
    asked = isinstance(algo, SamplingAlgo) and algo.measures_pass_rate and (train / FILE).exists()
    return summary(read_jsonl(train / FILE), algo) if asked else None


def _described(found: Mapping[str, Any]) -> Iterator[str]:
    for name, task in found["tasks"].items():
        spread = ", ".join(f"{right}: {count}" for right, count in enumerate(task["histogram"]) if count)
        ungraded = f", {task['ungraded']} of no graded answer" * bool(task["ungraded"])
        yield (
            f"rate     {name}: {task['kept']} of {task['rows']} rows are trained on; rows by right answers of "
            f"{found['samples']}: {spread}{ungraded}"
        )


def _graded(job: Job, made: Mapping[int, Generated], asked: Sequence[tuple[int, TrainingRow]]) -> Iterator[dict[str, Any]]:
    completions, lines = lines_of(made, asked)
    for line, right in zip(lines, job.run.reward_set.right(completions), strict=True):
        yield {**line, "right": right}
