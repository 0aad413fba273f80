"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300) and its kin: several completions a prompt, paid by
rewards, each compared with the others of its group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from medrl.algos import token_budget
from medrl.algos.base import Job
from medrl.algos.rollouts import OnlineRL
from medrl.errors import Problem

if TYPE_CHECKING:
    from medrl.config.sections import Sections


@dataclass(frozen=True, kw_only=True)
class GRPO(OnlineRL):
    """TRL's GRPOTrainer; Dr. GRPO, DAPO, GSPO and CISPO are settings of it, in ``conf/algo/``."""

    kind: ClassVar[str] = "grpo"

    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
    """How the token losses are normalized (TRL names a mistake here only at the first loss, so it is checked before)."""
    scale_rewards: Literal["group", "batch", "none"]
    """What advantages are divided by: the group's or the batch's standard deviation, or nothing (Dr. GRPO)."""
    importance_sampling_level: Literal["token", "sequence"]
    """``sequence`` with ``loss_type=grpo`` is GSPO (Zheng et al. 2025, arXiv 2507.18071)."""
    dynamic_sampling_rounds: Annotated[int, Ge(0)]
    """Most rounds of replacing prompts whose completions all earn the same, which teach nothing (DAPO's dynamic sampling);
    0 trains on every prompt as it comes."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.loss_type == "cispo" and (self.epsilon_high or 0.0) < 1:
            yield Problem(
                "epsilon_high",
                f"is {'null' if self.epsilon_high is None else self.epsilon_high}; with loss_type=cispo it caps the probability "
                "ratio itself, which is about 1; write algo=cispo or algo.epsilon_high=5.0",
            )
        if self.dynamic_sampling_rounds and self.scale_rewards == "batch":
            yield Problem(
                "dynamic_sampling_rounds",
                f"is {self.dynamic_sampling_rounds}, and with scale_rewards=batch advantages of replaced prompts are divided by "
                "another number than the rest; write algo.scale_rewards=group or none, or algo.dynamic_sampling_rounds=0",
            )
        share = self.batch_size * self.num_mini_batches // run.hardware.processes
        if self.dynamic_sampling_rounds and share % self.num_generations:
            yield Problem(
                "dynamic_sampling_rounds",
                f"is {self.dynamic_sampling_rounds}, and a GPU's share of {share} completions holds no whole number of groups of "
                f"num_generations={self.num_generations}; change algo.batch_size or write algo.dynamic_sampling_rounds=0",
            )

    def most_generated_tokens(self, run: Sections) -> int | None:
        """With every round of replacing."""
        most = super().most_generated_tokens(run)
        return most and most * (1 + self.dynamic_sampling_rounds)

    def trainer(self, job: Job) -> Any:
        from trl import GRPOConfig, GRPOTrainer

        from medrl.algos import dynamic_sampling
        from medrl.training.rollout.online_trainer import trainer_class

        kind = token_budget.counting(trainer_class(GRPOTrainer, job), job.generated)
        if self.dynamic_sampling_rounds:
            kind = dynamic_sampling.trainer_class(kind, self.dynamic_sampling_rounds)
        return kind(args=GRPOConfig(**self.arguments(job)), **self.materials(job))

    def arguments(self, job: Job) -> dict[str, Any]:
        return super().arguments(job) | {
            "loss_type": self.loss_type,
            "scale_rewards": self.scale_rewards,
            "importance_sampling_level": self.importance_sampling_level,
        }
