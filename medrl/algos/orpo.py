"""Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691): imitate the better completion and hold the worse
one back, in one loss and without a reference model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.algos.base import Footprint, Job
from medrl.algos.samples import SelfSampledPreference, as_tokens
from medrl.models.tokenization import IGNORED
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections


@dataclass(frozen=True, kw_only=True)
class ORPO(SelfSampledPreference):
    """Pairs as DPO makes them, in TRL's ORPOTrainer, which TRL keeps among its experiments.

    TRL imitates the prompt, too, as the authors' code does. The paper does not (equations 2, 3 and 6), and neither do we: of
    answers that the model wrote itself nearly all of that loss is the prompt.
    """

    kind: ClassVar[str] = "orpo"

    beta: Annotated[float, Gt(0)]
    """Weight of the odds ratio beside the likelihood of the better completion: the paper's lambda."""

    def footprint(self, run: Sections, known: int) -> Footprint:
        return super().footprint(run, known)._replace(frozen=0, fused=False)

    def train(self, job: Job, out: Path) -> None:
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the notice that TRL documents this for, and no other
        from trl.experimental.orpo import ORPOConfig

        pairs, _ = self.pairs(job, job.folder, job.rows[: self.prompts], job.run.seed)
        self.check_enough(pairs, "pairs of unequal reward")
        config = ORPOConfig(
            **self.arguments(job),
            beta=self.beta,
            max_length=job.run.model.context_tokens,  # None would be 512 and a warning
            remove_unused_columns=False,
        )
        rows = [_columns(row) for row in as_tokens(job, pairs)]
        run_trainer(self.trainer(trainer_class(), config, job, rows), job, out, self)


def trainer_class() -> type[Any]:
    """TRL's ORPOTrainer, which imitates the better completion alone, each by the mean over its own tokens (equation 2)."""
    from trl.experimental.orpo import ORPOTrainer

    class CompletionAlone(ORPOTrainer):
        def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
            chosen_logps, rejected_logps, chosen_logits, rejected_logits, _, *rest = super().concatenated_forward(model, batch)
            return (chosen_logps, rejected_logps, chosen_logits, rejected_logits, -chosen_logps.mean(), *rest)

    return CompletionAlone


def _columns(row: dict[str, list[int]]) -> dict[str, list[int]]:
    """A pair in the columns of TRL's ORPOTrainer."""
    prompt, columns = row["prompt_ids"], {"prompt_input_ids": row["prompt_ids"]}
    for side in ("chosen", "rejected"):
        columns[f"{side}_input_ids"] = prompt + row[f"{side}_ids"]
        columns[f"{side}_labels"] = [IGNORED] * len(prompt) + row[f"{side}_ids"]
    masks = {name.replace("input_ids", "attention_mask"): [1] * len(ids) for name, ids in columns.items() if "input" in name}
    return columns | masks
