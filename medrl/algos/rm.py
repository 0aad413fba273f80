"""Reward modelling: a score for prompt and answer that ranks the better answer of a pair higher (Ouyang et al. 2022,
arXiv 2203.02155, section 3.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from medrl.algos.base import Footprint, Job, TrainedAlgo
from medrl.config.bounds import TOKENS
from medrl.errors import Problem, UserError
from medrl.tasks.base import Kind
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow
    from medrl.data.prompts import Messages


@dataclass(frozen=True, kw_only=True)
class RM(TrainedAlgo):
    """TRL's RewardTrainer: the Bradley-Terry loss, -log sigmoid(score of chosen - score of rejected).

    ``model/`` holds whole weights whether an adapter was trained or not: a reward model is loaded beside a policy, by
    programs that have neither the adapter's base nor, for a fresh architecture, any way to come by it.
    """

    kind: ClassVar[str] = "rm"
    row_kinds: ClassVar[tuple[Kind, ...]] = ("preference",)
    trains_reward_model: ClassVar[bool] = True

    max_tokens: Annotated[int, Gt(0), TOKENS]
    """Pairs with a longer conversation are left out and counted; none is cut."""
    center_rewards_coefficient: Annotated[float, Ge(0)] | None
    """Weight of the squared sum of a pair's scores, which keeps their mean near 0 (Eisenstein et al. 2023, arXiv 2312.09244,
    equation 2); null leaves it free."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if run.model.quantization:
            message = f"model.quantization={run.model.quantization} cannot hold the merged weights that rm writes"
            yield Problem("", f"{message}; write model.quantization=null")
        if self.max_tokens > run.model.context_tokens:
            yield Problem("max_tokens", f"is {self.max_tokens}, the model's whole context is {run.model.context_tokens}")

    def max_prompt_tokens(self, run: Sections) -> int:
        return self.max_tokens

    def prompt_messages(self, row: TrainingRow) -> Messages:
        return [*row.messages, {"role": "assistant", "content": row.example.gold}]

    def footprint(self, run: Sections, known: int) -> Footprint:
        return Footprint(tokens=known, scored=0, sequences=2)

    def train(self, job: Job, out: Path) -> None:
        from trl import RewardConfig, RewardTrainer

        config = RewardConfig(**self.arguments(job), max_length=None, center_rewards_coefficient=self.center_rewards_coefficient)
        trainer = RewardTrainer(
            model=job.policy,
            args=config,
            train_dataset=self._dataset(job),
            processing_class=job.tokenizer,
            peft_config=job.run.model.adapter_config("SEQ_CLS"),
        )
        run_trainer(trainer, job, out, self)

    def finish(self, job: Job, written: Path) -> None:
        """Replace a trained adapter by the whole weights, on the CPU: a GPU is full of what was trained."""
        from medrl.models import loading
        from medrl.models.merged import merged_model

        if not job.run.model.lora:
            return
        on_cpu = replace(job.run.hardware, device="cpu")
        base = job.run.model.classifier(job.tokenizer, on_cpu, job.run.seed)
        merged = merged_model(loading.adapter(base, written), base.dtype)
        for file in written.glob("adapter_*"):
            file.unlink()
        merged.save_pretrained(written)

    def _dataset(self, job: Job) -> Any:
        from datasets import Dataset

        found = [
            {
                "chosen_ids": job.rendering.tokens(row.messages, row.example.gold).ids,
                "rejected_ids": job.rendering.tokens(row.messages, row.example.rejected).ids,
            }
            for row in job.rows
        ]
        pairs = [pair for pair in found if pair["chosen_ids"] != pair["rejected_ids"]]
        if len(pairs) < len(found):
            print(f"rm: both answers of {len(found) - len(pairs)} of {len(found)} pairs are the same tokens; they are left out")
        fitting = [pair for pair in pairs if max(map(len, pair.values())) <= self.max_tokens]
        if len(fitting) < len(pairs):
            print(f"rm: {len(pairs) - len(fitting)} of {len(pairs)} pairs are longer than {self.max_tokens} tokens and left out")
        if len(fitting) < self.batch_size:
            raise UserError(
                f"{len(fitting)} of {len(pairs)} pairs fit in algo.max_tokens={self.max_tokens}, fewer than one batch of "
                f"{self.batch_size}; raise algo.max_tokens or data_mix.rows, or lower algo.batch_size."
            )
        return Dataset.from_list(fitting)
