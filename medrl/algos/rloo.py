"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv 2402.14740)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from medrl.algos import completions, token_budget
from medrl.algos.base import Job
from medrl.algos.rollouts import OnlineRL
from medrl.errors import Problem

if TYPE_CHECKING:
    from medrl.config.sections import Sections


@dataclass(frozen=True, kw_only=True)
class RLOO(OnlineRL):
    """TRL's RLOOTrainer: what a completion earns less the mean of the others of its group, on the probability of the whole
    completion.

    ``beta`` prices the divergence within the reward, so that the advantages hold it and the logged rewards do not. With it no
    two rewards are equal, and ``frac_reward_zero_std`` is 0.
    """

    kind: ClassVar[str] = "rloo"

    normalize_advantages: bool
    """Bring the advantages of each round of generation to mean 0 and deviation 1."""
    reward_clip: tuple[float, float] | None
    """Lowest and highest total reward, before the divergence is taken off; null leaves it as it is."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.reward_clip and self.reward_clip[0] >= self.reward_clip[1]:
            yield Problem("reward_clip", f"is {list(self.reward_clip)}; write the lower number first")

    def trainer(self, job: Job) -> Any:
        from trl import RLOOConfig, RLOOTrainer

        from medrl.training.rollout.online_trainer import trainer_class

        kind = token_budget.counting(trainer_class(RLOOTrainer, job), job.generated)
        trainer = kind(args=RLOOConfig(**self.arguments(job)), **self.materials(job))
        trainer.add_callback(completions.kept(trainer, job.folder / "completions"))
        return trainer

    def arguments(self, job: Job) -> dict[str, Any]:
        return super().arguments(job) | {
            "normalize_advantages": self.normalize_advantages,
            "reward_clip_range": self.reward_clip,
        }
