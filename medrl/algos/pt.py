"""Continued pre-training: read domain text on (Gururangan et al. 2020, arXiv 2004.10964, section 3), MedicalGPT's first stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from medrl.algos.base import Job, TrainedAlgo
from medrl.algos.sft import imitating
from medrl.config.bounds import TOKENS
from medrl.errors import Problem, UserError
from medrl.tasks.base import Kind
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow
    from medrl.data.prompts import Messages


@dataclass(frozen=True, kw_only=True)
class PT(TrainedAlgo):
    """TRL's SFTTrainer on text in blocks, with the loss on every token. ``batch_size`` counts blocks."""

    kind: ClassVar[str] = "pretrain"
    row_kinds: ClassVar[tuple[Kind, ...]] = ("text",)

    block_tokens: Annotated[int, Gt(1), TOKENS]
    """Documents are joined, each with the end-of-sequence token behind it, and cut into blocks of so many tokens."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.block_tokens > run.model.context_tokens:
            yield Problem("block_tokens", f"is {self.block_tokens}, the model's whole context is {run.model.context_tokens}")

    def max_prompt_tokens(self, run: Sections) -> int:
        return self.block_tokens

    def prompt_messages(self, row: TrainingRow) -> Messages:
        return [{"role": "user", "content": row.example.gold}]

    def num_rows(self, run: Sections) -> None:
        """Blocks are known only when the documents are cut."""

    def train(self, job: Job, out: Path) -> None:
        found = self._blocks(job)  # before trl, which takes seconds to load

        from datasets import Dataset

        # The blocks are packed already: TRL would cut them anew at every thousandth document.
        trainer = imitating(self, job, Dataset.from_dict({"input_ids": found, "labels": found}))
        run_trainer(trainer, job, out, self)

    def _blocks(self, job: Job) -> list[list[int]]:
        """Raises `UserError` where they do not fill one batch."""
        documents = ([*job.rendering.document(row.example.gold), job.tokenizer.eos_token_id] for row in job.rows)
        found = blocks(documents, self.block_tokens)
        if len(found) < self.batch_size:
            raise UserError(
                f"{len(job.rows)} documents make {len(found)} blocks of algo.block_tokens={self.block_tokens}, fewer than one "
                f"batch of {self.batch_size}; raise data_mix.rows, or lower algo.block_tokens or algo.batch_size."
            )
        return found


def blocks(documents: Iterable[list[int]], size: int) -> list[list[int]]:
    """Token ids joined and cut into blocks of ``size``; the last may be shorter.

    A single token at the end is left out, since nothing is predicted there.
    """
    stream = list(chain.from_iterable(documents))
    return [stream[start : start + size] for start in range(0, len(stream) - 1, size)]
