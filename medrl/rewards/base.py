"""What a reward is, how rewards are weighed, and the only adapter to TRL's batch signature."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from medrl.errors import Problem
from medrl.tasks.base import Verdict

if TYPE_CHECKING:
    from medrl.config import Run
    from medrl.mix import Prompted


@dataclass(frozen=True)
class Completion:
    """A model's text to one training row. The verdict is found once, however many rewards read it."""

    text: str
    row: Prompted
    finished: bool = True
    """Whether the model ended it itself; false where the token limit cut it."""

    @cached_property
    def verdict(self) -> Verdict:
        """The task's own grade, the same that evaluation reports."""
        return self.row.task.grade(self.text, self.row.example, self.row.form, finished=self.finished)


@dataclass(frozen=True, kw_only=True)
class Reward(ABC):
    """One thing a completion is paid for. Scores lie in [0, 1] unless a class says otherwise; the weight is the price."""

    weight: Annotated[float, Ge(0)]
    """What a full score pays."""

    @abstractmethod
    def score(self, completion: Completion) -> float | None:
        """What the completion deserves; None abstains, where the reward does not apply to the task."""


@dataclass(frozen=True, kw_only=True)
class RewardSet:
    """Rewards by name; the names are those of the curves."""

    rewards: Mapping[str, Reward]
    normalise: bool
    """Divide the weights by their sum, so that a full total is 1."""

    def problems(self, run: Run) -> Iterator[Problem]:
        if not self.rewards:
            yield Problem("rewards", "is empty; name at least one reward")
        elif sum(reward.weight for reward in self.rewards.values()) == 0:
            yield Problem("rewards", "all weigh 0; nothing would be learned")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each reward as it is paid."""
        total = sum(reward.weight for reward in self.rewards.values()) if self.normalise else 1.0
        return {name: reward.weight / total for name, reward in self.rewards.items()}

    def total(self, completion: Completion) -> float:
        """Weighted sum of all rewards that do not abstain, as TRL adds them up."""
        scores = {name: reward.score(completion) for name, reward in self.rewards.items()}
        return math.fsum(self.weights[name] * score for name, score in scores.items() if score is not None)

    def functions(self, rows: Sequence[Prompted], eos_token_ids: set[int]) -> list[Callable[..., list[float | None]]]:
        """The rewards as TRL calls them: one function a reward, named by its YAML key.

        Args:
            rows: Training rows; TRL's batches carry the position of each in the column ``row``.
            eos_token_ids: A completion that does not end in one of these was cut by the token limit.
        """
        shared = _Completions(rows, eos_token_ids)
        return [_function(name, reward, shared) for name, reward in self.rewards.items()]


class _Completions:
    """The completions of the batch that TRL scores, made once and not again for each reward."""

    def __init__(self, rows: Sequence[Prompted], eos_token_ids: set[int]) -> None:
        self.rows, self.eos_token_ids = rows, eos_token_ids
        self.key: object = None
        self.batch: list[Completion] = []

    def of(self, completions: list[Any], completion_ids: list[list[int]], row: list[int]) -> list[Completion]:
        if self.key is not completions:
            self.key = completions
            self.batch = [
                Completion(messages[0]["content"], self.rows[index], bool(ids) and ids[-1] in self.eos_token_ids)
                for messages, ids, index in zip(completions, completion_ids, row, strict=True)
            ]
        return self.batch


def _function(name: str, reward: Reward, shared: _Completions) -> Callable[..., list[float | None]]:
    def function(*, completions: Any, completion_ids: Any, row: list[int], **_: Any) -> list[float | None]:
        return [reward.score(completion) for completion in shared.of(completions, completion_ids, row)]

    function.__name__ = name  # TRL names the curves after it
    return function
