"""Supervised fine-tuning: imitate demonstrations, with the loss on the completion alone or on more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt

from medrl.algos.base import Footprint, Job, TrainedAlgo
from medrl.config.bounds import TOKENS
from medrl.errors import Problem, UserError
from medrl.tasks.base import Kind
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow
    from medrl.data.prompts import Messages
    from medrl.models.tokenization import Rendering


@dataclass(frozen=True, kw_only=True)
class SFT(TrainedAlgo):
    """TRL's SFTTrainer on the data set's own reasoning and gold; of a preference pair, on the better answer."""

    kind: ClassVar[str] = "sft"
    row_kinds: ClassVar[tuple[Kind, ...]] = ("question", "conversation", "preference")
    imitates: ClassVar[bool] = True

    max_tokens: Annotated[int, Gt(0), TOKENS]
    """Rows longer than this are left out and counted; none is cut, because a cut answer teaches not to answer."""
    loss_on: Literal["completion", "assistant", "all"]
    """What is imitated: the last answer, every answer of a conversation, or the prompt, too."""
    packing: bool
    """Put several rows into one sequence of up to ``max_tokens``, where they do not see each other; ``batch_size`` then counts
    such sequences."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.packing and self.max_tokens > run.model.context_tokens:
            yield Problem("max_tokens", f"{self.max_tokens} is packed full; the model has {run.model.context_tokens}")
        if run.data_mix.shots and self.loss_on != "completion":
            yield Problem("loss_on", f"{self.loss_on} would learn data_mix.shots with every row; write completion, or no shots")

    def max_prompt_tokens(self, run: Sections) -> int:
        return min(self.max_tokens, run.model.context_tokens)

    def footprint(self, run: Sections, known: int) -> Footprint:
        return Footprint(tokens=known, scored=known)

    def prompt_messages(self, row: TrainingRow) -> Messages:
        return [*row.messages, {"role": "assistant", "content": row.demonstration}]

    def train(self, job: Job, out: Path) -> None:
        if self.packing:
            check_apart(job.policy)
        trainer = imitating(self, job, self._dataset(job), packed=self.max_tokens if self.packing else None)
        if len(trainer.train_dataset) < self.batch_size:
            raise UserError(
                f"The rows fill {len(trainer.train_dataset)} sequences of {self.max_tokens} tokens, fewer than one batch "
                f"of {self.batch_size}; lower algo.batch_size or set algo.packing=false."
            )
        run_trainer(trainer, job, out, self)

    def _dataset(self, job: Job) -> Any:
        from datasets import Dataset

        found = [self._rows(job.rendering, row) for row in job.rows]
        fitting = [rows for rows in found if all(len(each["input_ids"]) <= self.max_tokens for each in rows)]
        if len(fitting) < len(found):
            print(f"sft: {len(found) - len(fitting)} of {len(found)} rows are longer than {self.max_tokens} tokens and left out")
        if len(fitting) < self.batch_size and not self.packing:
            raise UserError(
                f"{len(fitting)} of {len(found)} rows fit in algo.max_tokens={self.max_tokens}, fewer than one batch of "
                f"{self.batch_size}; raise algo.max_tokens or lower algo.batch_size."
            )
        return Dataset.from_list([each for rows in fitting for each in rows])

    def _rows(self, rendering: Rendering, row: TrainingRow) -> list[dict[str, list[int]]]:
        """Tokens of a row and their labels; several where a template writes an answer otherwise once it is history."""
        if self.loss_on == "assistant":
            return rendering.conversation(self.prompt_messages(row))
        tokens = rendering.tokens(row.messages, row.demonstration)
        if self.loss_on == "completion":
            return [tokens.labelled()]
        return [{"input_ids": tokens.ids, "labels": tokens.ids}]


def imitating(algo: TrainedAlgo, job: Job, rows: Any, packed: int | None = None) -> Any:
    """TRL's SFTTrainer on rows that are tokens already.

    Args:
        algo: Whose settings it takes.
        job: Whose model it trains.
        rows: A datasets.Dataset of ``input_ids`` and of ``labels``, which are -100 where nothing is imitated.
        packed: Tokens of the sequences that rows are packed into; None for a row a sequence.
    """
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        **algo.arguments(job),
        max_length=packed,  # TRL packs up to it and cuts nothing, since longer rows are left out before
        packing=packed is not None,
        packing_strategy="bfd",
        completion_only_loss=False,  # the rows say themselves where the loss is
        shuffle_dataset=False,
        dataset_num_proc=None,
    )
    return SFTTrainer(
        model=job.policy,
        args=config,
        train_dataset=rows,
        processing_class=job.tokenizer,
        peft_config=job.run.model.adapter_config(),
    )


def check_apart(policy: Any) -> None:
    """Put two documents into one sequence, as packing does, and change the first: the second must not notice.

    Raises:
        UserError: it does, because the model or its attention takes no heed of positions that begin anew.
    """
    import torch

    length = 8
    words = torch.arange(1, 2 * length + 1, device=policy.device)
    positions = torch.arange(length, device=policy.device).repeat(2)[None]
    seen = []
    with torch.no_grad():
        for first in (words[:length], words[:length].flip(0)):
            ids = torch.cat([first, words[length:]])[None]
            seen.append(policy(input_ids=ids, position_ids=positions, use_cache=False).logits[0, length:])
    if not torch.allclose(*seen):
        raise UserError(
            f"algo.packing: packed rows would see each other in {type(policy).__name__} with "
            f"{policy.config._attn_implementation} attention; set algo.packing=false."
        )
