"""Preference pairs: which completions make one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medrl.errors import UserError

if TYPE_CHECKING:
    from medrl.data.mix import TrainingRow

Pair = Mapping[str, Any]
"""``prompt`` (messages), ``chosen`` and ``rejected`` (texts), their rewards (null where the data set says which is better),
``task`` and ``id``."""


def best_and_worst(
    samples: Sequence[Mapping[str, Any]], draw: random.Random
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The best and the worst of one prompt's samples; None where the reward tells no two apart.

    The better one must have ended itself: a text that the token limit cut would teach to end in the middle of a sentence.
    Among equals ``draw`` chooses: any rule on the texts would teach that rule.
    """
    whole = [sample for sample in samples if sample["finished"]]
    if not whole:
        return None
    highest, lowest = max(sample["reward"] for sample in whole), min(sample["reward"] for sample in samples)
    if highest <= lowest:
        return None
    best, worst = ([each for each in among if each["reward"] == end] for among, end in ((whole, highest), (samples, lowest)))
    return draw.choice(best), draw.choice(worst)


def pairs_of(samples: Sequence[Mapping[str, Any]], rows: Sequence[TrainingRow], each: int, seed: int) -> tuple[list[Pair], int]:
    """At most one pair of graded samples a row, of which there are ``each`` for every row, in the order of the rows; and how many
    pairs were left out because both texts are the same (a judge may grade one text in two ways, a token limit may cut one and not
    the other). ``seed`` draws among samples that earn the same.
    """
    found: list[Pair] = []
    equal = 0
    for at, row in enumerate(rows):
        draw = random.Random(f"pairs:{seed}:{at}")
        apart = best_and_worst(samples[at * each : (at + 1) * each], draw)
        if apart and apart[0]["text"] == apart[1]["text"]:
            equal += 1
        elif apart:
            best, worst = apart
            found.append(_pair(row, best["text"], worst["text"], best["reward"], worst["reward"]))
    return found, equal


def published_pair(row: TrainingRow) -> Pair:
    """A preference pair of the data set."""
    return _pair(row, row.example.gold, row.example.rejected, None, None)


def check_published_pairs(rows: Sequence[TrainingRow]) -> None:
    """Raises `UserError` where a row's better answer is its worse one."""
    for row in rows:
        if row.example.rejected and row.example.rejected == row.example.gold:
            raise UserError(
                f"Example {row.example.id} of {row.example.task}: both answers are {row.example.gold!r:.60}; a pair needs two "
                "that differ. Take the row out of the data."
            )


def _pair(row: TrainingRow, chosen: str, rejected: str, better: float | None, worse: float | None) -> Pair:
    return {
        "prompt": row.messages,
        "chosen": chosen,
        "rejected": rejected,
        "reward_chosen": better,
        "reward_rejected": worse,
        "task": row.example.task,
        "id": row.example.id,
    }
