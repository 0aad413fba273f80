"""Preference pairs, held out: whether a model prefers the better answer, by its score or by its likelihood."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from medrl.likelihood import Measure, Passage, conversation, reply
from medrl.prompts import messages
from medrl.tasks.base import Example, Task

Protocol = Literal["pairwise", "likelihood"]
"""Of a reward model, the higher score; of a policy, the higher mean log-probability of a token."""

SCORERS = {"pairwise": "pairs by score", "likelihood": "pairs by likelihood"}
"""What grades, as tables name it."""


def lines(
    task: Task, examples: Sequence[Example], protocol: Protocol, measure: Measure, tokenizer: Any, done: Collection[int]
) -> Iterator[dict[int, dict[str, Any]]]:
    """A line a pair, by its position, as soon as both of its answers are measured."""
    passages = [
        _passage(tokenizer, task, example, answer, protocol)
        for example in examples
        for answer in (example.gold, example.rejected)
    ]
    found: dict[int, float] = {}
    measured = {place for position in done for place in (2 * position, 2 * position + 1)}
    for batch in measure(passages, measured):
        found |= batch
        ready = {place // 2 for place in batch if place ^ 1 in found}
        yield {position: _line(task, examples[position], protocol, passages, found, position) for position in sorted(ready)}


def _passage(tokenizer: Any, task: Task, example: Example, answer: str, protocol: Protocol) -> Passage:
    prompt = messages(example, task)
    return Passage(conversation(tokenizer, prompt, answer), 0) if protocol == "pairwise" else reply(tokenizer, prompt, answer)


def _line(
    task: Task,
    example: Example,
    protocol: Protocol,
    passages: Sequence[Passage],
    found: dict[int, float],
    position: int,
) -> dict[str, Any]:
    """Equal scores are wrong: the model prefers neither."""
    places = (2 * position, 2 * position + 1)
    chosen, rejected = (found[place] if protocol == "pairwise" else -found[place] / passages[place].tokens for place in places)
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
        "tokens": sum(passages[place].tokens for place in places),
        "group": example.group,
        "vote": None,
        "place": None,
    }


def references(examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """What needs no model: chance, and the known short cuts by length in characters; equal lengths are wrong, as equal scores."""
    longer = [len(example.gold) - len(example.rejected) for example in examples]
    return {
        "random": {"accuracy": 0.5},
        "longer_answer": {"accuracy": sum(difference > 0 for difference in longer) / len(longer)},
        "shorter_answer": {"accuracy": sum(difference < 0 for difference in longer) / len(longer)},
    }
