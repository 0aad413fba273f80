"""Preference pairs, held out: whether a model prefers the better answer, by its score or by its likelihood."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from medrl.data.example import Example
from medrl.data.prompts import messages
from medrl.models.likelihood import Measure, Passage, reply
from medrl.models.tokenization import Rendering
from medrl.statistics.metrics import mcnemar, paired_change, wilson
from medrl.tasks.base import Task

Protocol = Literal["pairwise", "likelihood"]
"""Of a reward model, the higher score; of a policy, the higher mean log-probability of a token."""

SCORERS = {"pairwise": "pairs by score", "likelihood": "pairs by likelihood"}
"""What grades, as tables name it."""


def lines(
    task: Task, examples: Sequence[Example], protocol: Protocol, measure: Measure, rendering: Rendering, done: Collection[int]
) -> Iterator[dict[int, dict[str, Any]]]:
    """A line a pair, by its position, as soon as both of its answers are measured."""
    groups = [
        [_passage(rendering, task, example, answer, protocol) for answer in (example.gold, example.rejected)]
        for example in examples
    ]
    for batch in measure(groups, done):
        yield {
            position: _line(task, examples[position], protocol, groups[position], values) for position, values in batch.items()
        }


def _passage(rendering: Rendering, task: Task, example: Example, answer: str, protocol: Protocol) -> Passage:
    passage = reply(rendering, messages(example, task), answer)
    return Passage(passage.ids, 0) if protocol == "pairwise" else passage


def _line(task: Task, example: Example, protocol: Protocol, group: Sequence[Passage], values: Sequence[float]) -> dict[str, Any]:
    """Equal scores are wrong: the model prefers neither."""
    chosen, rejected = (
        value if protocol == "pairwise" else -value / passage.tokens for value, passage in zip(values, group, strict=True)
    )
    right = chosen > rejected
    return {
        "id": example.id,
        "sample": 0,
        "prompt": messages(example, task),
        "chosen": example.gold,
        "rejected": example.rejected,
        "score_chosen": chosen,
        "score_rejected": rejected,
        "verdict": "right" if right else "wrong",
        "credit": float(right),
        "tokens": sum(passage.tokens for passage in group),
        "group": example.group,
        "vote": None,
        "place": None,
    }


def against(lines: Sequence[Mapping[str, Any]], examples: Sequence[Example]) -> dict[str, dict[str, Any]]:
    """A reward model's pairs against chance (exact binomial test) and against the longer answer (McNemar's, the same pairs).

    Each has the reference's accuracy, the difference with its interval, and p. Beating both needs no correction: either alone
    claims nothing.
    """
    right = [line["verdict"] == "right" for line in lines]
    count, n = sum(right), len(right)
    longer = [len(example.gold) > len(example.rejected) for example in examples]
    paired = paired_change(longer, right)
    return {
        "chance": {
            "accuracy": 0.5,
            "difference": count / n - 0.5,
            "ci95": [end - 0.5 for end in wilson(count, n)],
            "p_value": mcnemar(count, n - count),  # both count heads of a fair coin
            "test": "exact binomial",
        },
        "longer_answer": {
            "accuracy": sum(longer) / n,
            "difference": paired.difference,
            "ci95": list(paired.ci95),
            "p_value": paired.p_value,
            "test": "exact McNemar",
        },
    }


def given(examples: Sequence[Example]) -> dict[str, list[float]]:
    """Whether the known short cuts, by length in characters, prefer the better answer; equal lengths are wrong."""
    longer = [len(example.gold) - len(example.rejected) for example in examples]
    return {
        "longer_answer": [float(difference > 0) for difference in longer],
        "shorter_answer": [float(difference < 0) for difference in longer],
    }


def references(examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """What needs no model: chance, and the known short cuts."""
    return {"random": {"accuracy": 0.5}, **{name: {"accuracy": fmean(each)} for name, each in given(examples).items()}}
