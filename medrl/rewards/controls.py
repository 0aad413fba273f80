"""Placebo arms: the same run with rewards that know nothing of the answer, to say how much of a gain needs no information.

Random rewards have raised a benchmark by 21 points (Shao et al. 2025, arXiv 2506.10947). A gain says something about a reward
only by what it is above that of its placebo.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from medrl.data.example import Example
from medrl.rewards.base import Completion, Reward, RewardSet, Scores

if TYPE_CHECKING:
    from medrl.data.mix import TrainingRow

Control = Literal["none", "coin", "permuted", "format"]
"""``coin``: rewards that look at the gold pay 0 or 1 at random. ``permuted``: they look at the gold of another example.
``format``: they are left out. ``none``: the rewards as they are."""


def controlled(rewards: RewardSet, control: Control, seed: int, rows: Sequence[TrainingRow]) -> RewardSet:
    """The reward set as an arm pays it. In every placebo no reward sees the gold of the example that it scores: the golds of all
    training rows are permuted within each task, or coins are tossed, by the run's seed.
    """
    if control == "none":
        return rewards
    paid = {name: replace(reward, weight=rewards.weights[name]) for name, reward in rewards.rewards.items()}
    if control == "format":
        paid = {name: reward for name, reward in paid.items() if not reward.looks_at_gold}
    if control == "coin":
        paid = {
            name: Coin(weight=reward.weight, instead_of=reward, seed=seed) if reward.looks_at_gold else reward
            for name, reward in paid.items()
        }
    golds = permuted([row for row in rows if not row.example.rejected], seed)
    coin = seed if control == "coin" else None
    return Placebo(rewards=paid, normalize=False, audit=rewards.audit, monitor=None, golds=golds, coin=coin)


@dataclass(frozen=True, kw_only=True)
class Placebo(RewardSet):
    """A reward set whose rewards see the gold of another example."""

    kind: ClassVar[str] = "placebo"

    golds: Mapping[Example, Example]
    """Each example with another one's gold."""
    coin: int | None
    """Seed of the coin that also decides which completions count as right; None where the other gold decides."""

    def seen(self, completions: Sequence[Completion]) -> Sequence[Completion]:
        return [
            replace(each, row=replace(each.row, example=self.golds[each.row.example])) if each.row.example in self.golds else each
            for each in completions
        ]

    def right(self, completions: Sequence[Completion]) -> list[bool | None]:
        if self.coin is None:
            return super().right(completions)
        return [toss(self.coin, each) for each in completions]


@dataclass(frozen=True, kw_only=True)
class Coin(Reward):
    """The highest or the lowest score of another reward, each for half of all texts; abstains where that reward does.

    The same text to the same example is paid the same, as by a reward that knows something.
    """

    kind: ClassVar[str] = "coin"

    instead_of: Reward
    seed: int

    def score(self, completion: Completion) -> float | None:
        return self.score_all([completion])[0]

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        low, high = (end if math.isfinite(end) else side for side, end in enumerate(self.instead_of.bounds))
        scores = self.instead_of.score_all(completions)
        return [
            None if score is None else float(high if toss(self.seed, each) else low)
            for score, each in zip(scores, completions, strict=True)
        ]


def toss(seed: int, completion: Completion) -> bool:
    """A fair coin for each text to each example."""
    told = f"{seed}\0{completion.row.example.task}\0{completion.row.example.id}\0{completion.text}"
    return bool(hashlib.sha256(told.encode("utf-8", "replace")).digest()[0] & 1)


def permuted(rows: Sequence[TrainingRow], seed: int) -> dict[Example, Example]:
    """Each example of the rows with the gold of another one of its task, drawn without regard to what is right.

    Golds change places among examples whose answers are of one type. Where the other's gold is none of an example's own options
    (a letter beyond the last, a candidate of another list), one of its options is drawn, its gold among them: a gold that is
    never its own would tell what is wrong. A tolerance, other wordings and a rubric go with their gold.
    """
    kinds: dict[tuple[str, str], dict[Example, TrainingRow]] = {}
    for row in rows:
        kind = type(row.task.answers.of(row.example)).__name__
        kinds.setdefault((row.example.task, kind), {}).setdefault(row.example, row)
    found: dict[Example, Example] = {}
    for (task, kind), examples in sorted(kinds.items(), key=lambda each: each[0]):
        order = Random(f"permuted:{task}:{kind}:{seed}")
        others = list(examples)
        order.shuffle(others)
        for (example, row), other in zip(examples.items(), others, strict=True):
            options = row.task.answers.options(example)
            if options and other.gold not in options:
                found[example] = replace(example, gold=order.choice(options), accepted=())
            else:
                taken = {"gold": other.gold, "accepted": other.accepted, "limits": other.limits, "rubric": other.rubric}
                found[example] = replace(example, **taken)  # type: ignore[arg-type]
    return found
