"""Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691): imitate the better completion and hold the worse
one back, in one loss and without a reference model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from medrl.algos.base import Footprint, Job
from medrl.algos.samples import SelfSampledPreference, texts
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections


@dataclass(frozen=True, kw_only=True)
class ORPO(SelfSampledPreference):
    """Pairs as DPO makes them, in TRL's ORPOTrainer, which TRL keeps among its experiments."""

    kind: ClassVar[str] = "orpo"

    beta: Annotated[float, Gt(0)]
    """Weight of the odds ratio beside the likelihood of the better completion: the paper's lambda."""

    def footprint(self, run: Sections, known: int) -> Footprint:
        return super().footprint(run, known)._replace(frozen=0, fused=False)

    def train(self, job: Job, out: Path) -> None:
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the notice that TRL documents this for, and no other
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        pairs, _ = self.pairs(job, job.folder, job.rows[: self.prompts], job.run.seed)
        self.check_enough(pairs, "pairs of unequal reward")
        config = ORPOConfig(
            **self.arguments(job),
            beta=self.beta,
            max_length=job.run.model.context_tokens,  # None would cut at 512; pairs that are longer are left out before
            remove_unused_columns=False,
        )
        run_trainer(self.trainer(ORPOTrainer, config, job, texts(job.tokenizer, pairs)), job, out, self)
