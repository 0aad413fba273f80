"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on pairs made from the model's own graded samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Gt

from medrl.algos.base import Job
from medrl.algos.samples import SelfSampledPreference, describe, enough, reference, texts
from medrl.training.trainer import run_trainer


@dataclass(frozen=True, kw_only=True)
class DPO(SelfSampledPreference):
    """Sample, grade with the reward set, pair the best against the worst, and train TRL's DPOTrainer on the pairs."""

    kind: ClassVar[str] = "dpo"

    beta: Annotated[float, Gt(0)]
    """Price of leaving the model before training."""

    def train(self, job: Job, out: Path) -> None:
        from trl import DPOConfig, DPOTrainer

        pairs, figures = self.pairs(job, job.folder, job.rows[: self.prompts], job.run.seed)
        print(describe(figures), flush=True)
        enough(pairs, self, "pairs of unequal reward")
        trainer = self.trainer(
            DPOTrainer,
            DPOConfig(**self.arguments(job), beta=self.beta, max_length=None),
            job,
            texts(job.tokenizer, pairs),
            ref_model=reference(job),
            peft_config=job.run.model.adapter_config(),
        )
        run_trainer(trainer, job, out, self)
