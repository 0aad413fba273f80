"""What a reward is, how rewards are weighed, and the only adapter to TRL's batch signature."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Ge

from medrl.config.bounds import Most
from medrl.config.identity import Identified
from medrl.errors import Problem, UserError
from medrl.grading.judges.base import Judge
from medrl.grading.judges.monitor import Monitor
from medrl.grading.verdicts import Attempt, Verdict
from medrl.statistics.confusion import commonest

if TYPE_CHECKING:
    from medrl.data.mix import TrainingRow
    from medrl.tasks.base import Task

Scores = list[float | None]
"""One a completion; None where a reward abstains."""


@dataclass(frozen=True)
class Completion:
    """A model's text to one training row. The verdict is found once, however many rewards read it."""

    text: str
    row: TrainingRow
    finished: bool = True
    """Whether the model ended it itself; false where the token limit cut it."""
    tokens: int | None = None
    """Length, the closing token included; None where no model wrote the text."""

    @cached_property
    def verdict(self) -> Verdict:
        """The task's own grade, the same that evaluation reports."""
        return self.row.task.grade(self.text, self.row.example, finished=self.finished)


def graded(completions: Sequence[Completion]) -> Sequence[Completion]:
    """The same completions with their verdicts found, task by task, so that a judge is asked once for all."""
    waiting: dict[int, list[Completion]] = {}
    for completion in completions:
        if "verdict" not in vars(completion):
            waiting.setdefault(id(completion.row.task), []).append(completion)
    for group in waiting.values():
        attempts = [Attempt(completion.text, completion.row.example, completion.finished) for completion in group]
        for completion, verdict in zip(group, group[0].row.task.grade_all(attempts), strict=True):
            vars(completion)["verdict"] = verdict  # where cached_property keeps it
    return completions


@dataclass(frozen=True, kw_only=True)
class Reward(Identified, ABC):
    """One thing a completion is paid for; the weight is the price."""

    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Lowest and highest score."""
    loads_weights: ClassVar[bool] = False
    """Whether it needs a model of its own, which a dry run does not load."""
    looks_at_gold: ClassVar[bool] = False
    """Whether it pays for the right answer: a placebo arm takes its information away (`medrl.rewards.controls`)."""

    weight: Annotated[float, Ge(0), Most(10**6, "rewards are summed, and beside this one the others would be lost")]
    """What a full score pays."""

    @abstractmethod
    def score(self, completion: Completion) -> float | None:
        """What the completion deserves; None abstains, where the reward does not apply to the task."""

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        """`score` for many; a reward that asks a model asks it for all of them at once."""
        return [self.score(completion) for completion in completions]

    def problems(self) -> Iterator[Problem]:
        """Mistakes that can be seen in the configuration."""
        return iter(())

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raises `UserError`, before weights load, where it cannot score what a policy with this tokenizer writes."""

    def fingerprint(self) -> dict[str, str]:
        """What tells the weights of a reward from any others; empty where it has none."""
        return {}


@dataclass(frozen=True, kw_only=True)
class RewardSet(Identified):
    """Rewards by name; the names are those of the curves."""

    kind: ClassVar[str] = "reward_set"
    not_learned: ClassVar[frozenset[str]] = frozenset({"audit", "monitor"})

    rewards: Mapping[str, Reward]
    """Each reward by its name; ``weight`` is its price."""
    normalize: bool
    """Divide the weights by their sum, so that a full total is 1."""
    audit: Literal["stop", "warn"]
    """What to do where a known hack earns more than the gold."""
    monitor: Monitor | None
    """A second judge that watches training and teaches nothing; a placebo has none."""

    def problems(self) -> Iterator[Problem]:
        if not self.rewards:
            yield Problem("rewards", "is empty; name at least one reward")
        elif sum(reward.weight for reward in self.rewards.values()) == 0:
            yield Problem("rewards", "all weigh 0; nothing would be learned")
        for name, reward in self.rewards.items():
            for problem in reward.problems():
                yield Problem(f"rewards.{name}.{problem.key}", problem.message)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each reward as it is paid."""
        total = sum(reward.weight for reward in self.rewards.values()) if self.normalize else 1.0
        return {name: reward.weight / (total or 1.0) for name, reward in self.rewards.items()}

    def seen(self, completions: Sequence[Completion]) -> Sequence[Completion]:
        """The completions as the rewards see them: with their own golds, but for a placebo."""
        return completions

    def right(self, completions: Sequence[Completion]) -> list[bool | None]:
        """Which completions count as right where they are labelled and not paid; None where a judge abstained."""
        outcomes = [completion.verdict.outcome for completion in graded(self.seen(completions))]
        return [None if outcome == "ungraded" else outcome == "right" for outcome in outcomes]

    def scores(self, completions: Sequence[Completion]) -> dict[str, Scores]:
        """What each reward says of each completion, unweighted."""
        seen = graded(self.seen(completions))
        return {name: reward.score_all(seen) for name, reward in self.rewards.items()}

    def totals(self, completions: Sequence[Completion]) -> list[float]:
        """Weighted sums of the rewards that do not abstain, as TRL adds them up. Raises `UserError` for a score that is not
        finite.
        """
        return self.weighted({name: finite(name, completions, scores) for name, scores in self.scores(completions).items()})

    def weighted(self, scores: Mapping[str, Scores]) -> list[float]:
        """Weighted sums of scores that are known already."""
        weights = self.weights
        return [
            math.fsum(weights[name] * score for name, score in zip(scores, row, strict=True) if score is not None)
            for row in zip(*scores.values(), strict=True)
        ]

    def total(self, completion: Completion) -> float:
        """`totals` of one."""
        return self.totals([completion])[0]

    def paid_by_judge(self, completions: Sequence[Completion], judge: Judge | None = None) -> Scores:
        """What the rewards that pay for right answers pay each completion, as a share of the most; None where all abstain.
        ``judge`` grades in the place of the judges of the rewards and of the tasks.
        """
        asked = [name for name, reward in self.rewards.items() if reward.looks_at_gold and reward.weight > 0]
        if judge:
            completions = [replace(each, row=replace(each.row, task=_judged_by(each.row.task, judge))) for each in completions]
        seen = graded(completions)
        scores = {name: _judged_by(self.rewards[name], judge).score_all(seen) for name in asked}
        paid: Scores = []
        for at in range(len(seen)):
            known = {name: score for name in asked if (score := scores[name][at]) is not None}
            most = math.fsum(self.rewards[name].weight * self.rewards[name].bounds[1] for name in known)
            paid.append(math.fsum(self.rewards[name].weight * score for name, score in known.items()) / most if known else None)
        return paid

    def functions(
        self, rows: Sequence[TrainingRow], eos_token_ids: set[int], opening: str, scored: list[Completion] | None = None
    ) -> list[Callable[..., Scores]]:
        """The rewards as TRL calls them: one function a reward, named by its YAML key. TRL's batches carry the position of each
        training row in the column ``row``. A completion that does not end in one of ``eos_token_ids`` was cut by the token limit;
        the chat template writes ``opening`` of every completion itself. ``scored`` is made to hold the last batch.
        """
        shared = _Completions(self, rows, eos_token_ids, opening, [] if scored is None else scored)
        return [_function(name, reward, shared) for name, reward in self.rewards.items()]


class _Completions:
    """The completions of the batch that TRL scores, made and graded once and not again for each reward."""

    def __init__(
        self, rewards: RewardSet, rows: Sequence[TrainingRow], eos_token_ids: set[int], opening: str, scored: list[Completion]
    ) -> None:
        self.rewards, self.rows, self.eos_token_ids, self.opening, self.scored = rewards, rows, eos_token_ids, opening, scored
        self.key: object = None
        self.batch: Sequence[Completion] = []

    def of(
        self, completions: list[Any], completion_ids: list[list[int]], row: list[int], log_metric: Callable[[str, float], None]
    ) -> Sequence[Completion]:
        if self.key is not completions:
            self.key = completions
            made = [
                Completion(
                    self.opening + messages[0]["content"], self.rows[index], bool(ids) and ids[-1] in self.eos_token_ids, len(ids)
                )
                for messages, ids, index in zip(completions, completion_ids, row, strict=True)
            ]
            for name, value in _answer_metrics(graded(made)).items():  # by their own golds, whatever is paid
                log_metric(name, value)
            self.batch = graded(self.rewards.seen(made))
            self.scored[:] = made
        return self.batch


def _answer_metrics(batch: Sequence[Completion]) -> dict[str, float]:
    """What is watched besides the rewards: shares of right, unparsed and cut-off answers, and of first choices.

    Of tasks whose answers nothing grades, none is right and none is wrong: they count only as unparsed or cut off.
    """
    outcomes = [completion.verdict.outcome for completion in batch]
    graded_outcomes = [completion.verdict.outcome for completion in batch if completion.row.task.answers.graded]
    shares = {f"answers/{outcome}": outcomes.count(outcome) / len(batch) for outcome in ("unparsed", "truncated")}
    if graded_outcomes:
        shares |= {
            f"answers/{outcome}": graded_outcomes.count(outcome) / len(graded_outcomes) for outcome in ("right", "ungraded")
        }
    constant = {"answers/commonest": share} if (share := _constant(batch)) is not None else {}
    places = [completion.row.task.answers.place(completion.verdict.reading, completion.row.example) for completion in batch]
    known = [place for place in places if place is not None]
    placed = {"answers/placed": len(known) / len(batch)}  # how many the next share is taken of
    return shares | constant | placed | ({"answers/first_choice": known.count(0) / len(known)} if known else {})


def _constant(batch: Sequence[Completion]) -> float | None:
    """The greatest share that one answer has of those to a task, where most can be read and fewer golds are that answer."""
    tasks: dict[str, list[Completion]] = {}
    for completion in batch:
        if completion.row.task.answers.graded and not completion.row.task.answers.ranked:
            tasks.setdefault(completion.row.example.task, []).append(completion)
    shares = []
    for part in tasks.values():
        found = commonest([each.row.example.gold for each in part], [each.verdict.value for each in part])
        if found and 2 * found["read"] > len(part) and found["of_golds"] < found["share"]:
            shares.append(found["share"])
    return max(shares, default=None)


def finite(name: str, completions: Sequence[Completion], scores: Scores) -> Scores:
    """The scores of a reward. Raises `UserError` where one is no number: TRL would take NaN for a reward that abstains."""
    for completion, score in zip(completions, scores, strict=True):
        if score is not None and not math.isfinite(score):
            raise UserError(
                f"The reward {name} is {score}, which is no finite number, for {completion.text!r:.80}; mend its `score`, which "
                "may return None to abstain."
            )
    return scores


Part = TypeVar("Part", "Task", Reward)


def _judged_by(part: Part, judge: Judge | None) -> Part:
    """A task or a reward that asks another judge, where it asks one at all."""
    return replace(part, judge=judge) if judge and hasattr(part, "judge") else part  # type: ignore[call-arg]


def _function(name: str, reward: Reward, shared: _Completions) -> Callable[..., Scores]:
    def function(*, completions: Any, completion_ids: Any, row: list[int], log_metric: Any, **_: Any) -> Scores:
        batch = shared.of(completions, completion_ids, row, log_metric)
        return finite(name, batch, reward.score_all(batch))

    function.__name__ = name  # TRL names the curves after it
    return function
