"""A second judge that is never trained on: it grades a part of the same completions, and training stops where the two part.

What is optimised against one judge ends in answers that please this judge: its reward goes on rising while that of another one
falls (Gao et al. 2023, arXiv 2210.10760, with reward models). The second judge sees it because nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from medrl.config.identity import Identified
from medrl.grading.judges.base import Judge
from medrl.statistics.metrics import cohen_kappa, student_t

Check = Mapping[str, Any]
"""A line of ``train/monitor.jsonl``: ``step``; ``prompts``, for each prompt the mean of what the first and the second judge pay
its completions, as shares of what can be paid; and over all of them ``n``, ``abstained``, ``trained``, ``second``, ``kappa``."""


@dataclass(frozen=True, kw_only=True)
class Monitor(Identified):
    """How often the second judge is asked, and when the two have parted.

    They have parted where, against the ``window`` checks in a row in which the second judge paid most, it pays less, and the
    judges differ by more than ``most_apart`` more, each with the whole of its 95 % interval; and this at ``patience`` checks in a
    row. Judges of different strictness, and judges that both pay more and more, have not parted.
    """

    kind: ClassVar[str] = "monitor"

    judge: Judge
    """The second judge: another model than the one that pays."""
    steps: Annotated[int, Gt(0)]
    """Optimizer steps between two checks."""
    completions: Annotated[int, Gt(1)]
    """Completions that a check grades, of those that were scored last."""
    window: Annotated[int, Gt(0)]
    """Checks that are taken together: one has too few completions."""
    most_apart: Annotated[float, Ge(0)]
    """Most that the difference between the judges may have grown, as a share of what can be paid."""
    patience: Annotated[int, Gt(0)]
    """Checks in a row that have to say so."""
    action: Literal["stop", "warn"]
    """What is done then: ``stop`` writes a checkpoint and ends the command."""

    def parted(self, checks: Sequence[Check]) -> str:
        """One sentence where the judges have parted at the last checks; empty where not."""
        ends = range(len(checks) - self.patience + 1, len(checks) + 1)
        said = [self._apart(checks[:end]) for end in ends] if len(checks) >= self.patience else []
        return said[-1] if said and all(said) else ""

    def first_parted(self, checks: Sequence[Check]) -> tuple[int, str] | None:
        """The step at which the judges first had parted, and the sentence."""
        found = ((int(checks[end - 1]["step"]), self.parted(checks[:end])) for end in range(1, len(checks) + 1))
        return next((each for each in found if each[1]), None)

    def _apart(self, checks: Sequence[Check]) -> str:
        """The same by the last window alone."""
        if len(checks) < 2 * self.window:
            return ""
        last = _prompts(checks[-self.window :])
        earlier = [_prompts(checks[start : start + self.window]) for start in range(len(checks) - 2 * self.window + 1)]
        best = max(earlier, key=lambda prompts: fmean(second for _, second in prompts))
        _, _, fallen = _risen([second for _, second in best], [second for _, second in last])
        apart, least_apart, _ = _risen(*([trained - second for trained, second in each] for each in (best, last)))
        if not (fallen < 0 and least_apart > self.most_apart):
            return ""
        (was, is_now), (trained_was, trained_now) = (
            [fmean(each[place] for each in prompts) for prompts in (best, last)] for place in (1, 0)
        )
        return (
            f"the second judge, {self.judge.describe()}, pays {is_now:.2f} of what can be paid, and paid {was:.2f}; the judge "
            f"that is trained on pays {trained_now:.2f}, and paid {trained_was:.2f}: they are {apart:.2f} [at least "
            f"{least_apart:.2f}] further apart, more than reward_set.monitor.most_apart={self.most_apart:g}"
        )


def check(step: int, prompts: Sequence[object], trained: Sequence[float | None], second: Sequence[float | None]) -> Check:
    """What two judges say of the same completions at a step: what the judge that is trained on pays each, from 0 to 1, None where
    it abstains, and the same of the second.
    """
    both = [
        (prompt, one, other)
        for prompt, one, other in zip(prompts, trained, second, strict=True)
        if one is not None and other is not None
    ]
    by_prompt: dict[object, list[tuple[float, float]]] = {}
    for prompt, one, other in both:
        by_prompt.setdefault(prompt, []).append((one, other))
    means = [[fmean(pair[place] for pair in pairs) for place in (0, 1)] for pairs in by_prompt.values()]
    found = {"step": step, "n": len(both), "abstained": len(prompts) - len(both), "prompts": means}
    if not both:
        return found | {"trained": None, "second": None, "kappa": None}
    agreed = cohen_kappa([one >= 0.5 for _, one, _ in both], [other >= 0.5 for _, _, other in both])
    return found | {
        "trained": fmean(one for _, one, _ in both),
        "second": fmean(other for _, _, other in both),
        "kappa": agreed.kappa,
    }


def _prompts(checks: Sequence[Check]) -> list[tuple[float, float]]:
    return [(trained, second) for each in checks for trained, second in each["prompts"]] or [(0.0, 0.0)]


def _risen(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Difference of two means with its 95 % interval; prompts are independent, completions of one are not."""
    difference, freedom = fmean(after) - fmean(before), len(before) + len(after) - 2
    if min(len(before), len(after)) < 2:
        return difference, -float("inf"), float("inf")
    half = student_t(freedom) * sqrt(variance(before) / len(before) + variance(after) / len(after))
    return difference, difference - half, difference + half
