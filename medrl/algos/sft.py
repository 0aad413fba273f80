"""Supervised fine-tuning: imitate demonstrations, with the loss on the completion alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.algos.base import Job, Optimised, peft_config, run_trainer
from medrl.errors import UserError
from medrl.rendering import Rendering
from medrl.tasks.base import Kind


@dataclass(frozen=True, kw_only=True)
class SFT(Optimised):
    """TRL's SFTTrainer on the data set's own reasoning and gold; of a preference pair, on the better answer."""

    reads: ClassVar[tuple[Kind, ...]] = ("question", "conversation", "preference")

    max_tokens: Annotated[int, Gt(0)]
    """Rows longer than this are left out and counted; none is cut, because a cut answer teaches not to answer."""

    def train(self, job: Job, out: Path) -> None:
        from trl import SFTConfig, SFTTrainer

        config = SFTConfig(
            **self.arguments(job),
            max_length=None,
            completion_only_loss=True,
            shuffle_dataset=False,
            dataset_num_proc=None,
        )
        trainer = SFTTrainer(
            model=job.policy,
            args=config,
            train_dataset=self._dataset(job),
            processing_class=job.tokenizer,
            peft_config=peft_config(job.run),
        )
        run_trainer(trainer, job, out)

    def _dataset(self, job: Job) -> Any:
        from datasets import Dataset

        rendering = Rendering(job.tokenizer)
        rows = [rendering.tokens(row.messages, row.demonstration) for row in job.rows]
        fitting = [row for row in rows if len(row.prompt) + len(row.completion) <= self.max_tokens]
        if len(fitting) < len(rows):
            print(f"sft: {len(rows) - len(fitting)} of {len(rows)} rows are longer than {self.max_tokens} tokens and left out")
        if len(fitting) < self.batch_size:
            raise UserError(
                f"{len(fitting)} of {len(rows)} rows fit in algo.max_tokens={self.max_tokens}, fewer than one batch of "
                f"{self.batch_size}; raise algo.max_tokens or lower algo.batch_size."
            )
        return Dataset.from_list([row.labelled() for row in fitting])
