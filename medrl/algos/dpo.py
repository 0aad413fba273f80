"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on pairs made from the model's own graded samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Gt

from medrl.algos.base import Job
from medrl.algos.samples import SelfSampledPreference, as_tokens, reference
from medrl.training.trainer import run_trainer


@dataclass(frozen=True, kw_only=True)
class DPO(SelfSampledPreference):
    """Sample, grade with the reward set, pair the best against the worst, and train TRL's DPOTrainer on the pairs."""

    kind: ClassVar[str] = "dpo"

    beta: Annotated[float, Gt(0)]
    """KL penalty coefficient against the model before training."""

    def train(self, job: Job, out: Path) -> None:
        from trl import DPOConfig, DPOTrainer

        pairs, _ = self.pairs(job, job.folder, job.rows[: self.prompts], job.run.seed)
        self.check_enough(pairs, "pairs of unequal reward")
        config = DPOConfig(**self.arguments(job), beta=self.beta, max_length=None)
        trainer = self.trainer(DPOTrainer, config, job, as_tokens(job, pairs), ref_model=reference(job))
        run_trainer(trainer, job, out, self)
