"""Supervised fine-tuning: imitate demonstrations, with the loss on the completion alone or on more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt

from medrl.algos.base import Job, TrainedAlgo
from medrl.config.bounds import TOKENS, Most
from medrl.config.identity import Values
from medrl.data.mix import TrainingRow
from medrl.errors import Problem, UserError
from medrl.tasks.base import Kind
from medrl.training import best_model, flex_attention
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections
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
    eval_steps: Annotated[int, Gt(0), Most(10**8, "no run takes more steps")] | None
    """After every so many steps, and after the last, the loss on validation rows is computed (``eval_loss`` in the log): those of
    `DataMix.validation_rows` of the tasks that are both trained on and held out. null computes none."""
    load_best_model_at_end: bool
    """The model is that of the checkpoint with the lowest ``eval_loss``, and not that of the last step."""
    early_stopping_patience: Annotated[int, Gt(0), Most(10**8, "no run is evaluated more often")] | None
    """Training ends where ``eval_loss`` was so many times in a row no lower than at its lowest; null goes on to the last step."""
    packing: bool
    """Put several rows into one sequence of up to ``max_tokens``, where they do not see each other; ``batch_size`` then counts
    such sequences."""

    def identity(self) -> Values:
        """Without the choice of a checkpoint where none is chosen: runs of before there was this keep their ids."""
        values = super().identity()
        return values if self.load_best_model_at_end else {key: values[key] for key in values if key != "load_best_model_at_end"}

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        yield from self._validation_problems(run)
        if self.packing and self.max_tokens > run.model.context_tokens:
            yield Problem("max_tokens", f"{self.max_tokens} is packed full; the model has {run.model.context_tokens}")
        if run.data_mix.shots and self.loss_on != "completion":
            yield Problem("loss_on", f"{self.loss_on} would learn data_mix.shots with every row; write completion, or no shots")

    def _validation_problems(self, run: Sections) -> Iterator[Problem]:
        if self.eval_steps is None:
            for option in ("load_best_model_at_end", "early_stopping_patience"):
                if getattr(self, option):
                    said = "reads the loss on validation rows, and none is computed; set algo.eval_steps, to 50 say"
                    yield Problem(option, said)
            return
        if run.data_mix.validation_rows is None:
            yield Problem(
                "eval_steps", "computes the loss on validation rows, and none are kept; set data_mix.validation_rows, to 50 say"
            )
        if not self._validated(run):
            yield Problem(
                "eval_steps", "reads tasks that are trained on and held out, and the mix has none; add one to data_mix.held_out"
            )
        if run.hardware.sharding != "none":
            yield Problem(
                "eval_steps", f"reads a model that is whole; write null, or hardware.sharding=none for {run.hardware.sharding}"
            )
        if self.load_best_model_at_end and self.save_steps != self.eval_steps:
            yield Problem(
                "save_steps",
                f"is {self.save_steps} and eval_steps is {self.eval_steps}; the best model is read from its checkpoint: "
                "write the same",
            )

    def _validated(self, run: Sections) -> list[str]:
        """The tasks whose validation rows the loss is computed on."""
        return [name for name in run.data_mix.held_out if run.data_mix.weights.get(name, 0) > 0]

    def arguments(self, job: Job) -> dict[str, Any]:
        shared = super().arguments(job)
        if self.eval_steps is None:
            return shared
        return shared | {
            "eval_strategy": "steps",
            "eval_steps": self.eval_steps,
            "per_device_eval_batch_size": shared["per_device_train_batch_size"],
            "load_best_model_at_end": self.load_best_model_at_end,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }

    def max_prompt_tokens(self, run: Sections) -> int:
        return min(self.max_tokens, run.model.context_tokens)

    def prompt_messages(self, row: TrainingRow) -> Messages:
        return [*row.messages, {"role": "assistant", "content": row.demonstration}]

    def train(self, job: Job, out: Path) -> None:
        packed, validation = self.max_tokens if self.packing else None, self._validation(job)
        trainer = imitating(self, job, self._dataset(job), packed, validation)
        if len(trainer.train_dataset) < self.batch_size:
            raise UserError(
                f"The rows fill {len(trainer.train_dataset)} sequences of {self.max_tokens} tokens, fewer than one batch "
                f"of {self.batch_size}; lower algo.batch_size or set algo.packing=false."
            )
        if validation is not None:
            trainer.add_callback(best_model.callback(self.early_stopping_patience))
        run_trainer(trainer, job, out, self)

    def _validation(self, job: Job) -> Any:
        """The validation rows as tokens; None where nothing is computed on them. Raises `UserError` where all are too long."""
        from datasets import Dataset

        if self.eval_steps is None:
            return None
        mix, source = job.run.data_mix, job.run.source
        kept = {name: mix.with_shots(source, name, mix.validation(source, name)) for name in self._validated(job.run)}
        rows = [TrainingRow(each, mix.tasks[name]) for name, examples in kept.items() for each in examples]
        fitting = [each for row in rows if not row.misleads for each in self._fitting(job.rendering, row)]
        if not fitting:
            raise UserError(f"None of {len(rows)} validation rows fits in algo.max_tokens={self.max_tokens}; raise it.")
        return Dataset.from_list(fitting)

    def _fitting(self, rendering: Rendering, row: TrainingRow) -> list[dict[str, list[int]]]:
        """`_rows` of a row; none where one of them is too long."""
        found = self._rows(rendering, row)
        return found if all(len(each["input_ids"]) <= self.max_tokens for each in found) else []

    def _dataset(self, job: Job) -> Any:
        from datasets import Dataset

        found = [self._fitting(job.rendering, row) for row in job.rows]
        fitting = [rows for rows in found if rows]
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


def imitating(algo: TrainedAlgo, job: Job, rows: Any, packed: int | None = None, validation: Any = None) -> Any:
    """TRL's SFTTrainer on a datasets.Dataset of ``input_ids`` and of ``labels``, -100 where nothing is imitated, packed into
    sequences of ``packed`` tokens where that is given; the loss on ``validation`` rows is computed while it trains.
    """
    from trl import SFTConfig, SFTTrainer

    arguments, multiple = algo.arguments(job), None
    if packed is not None:
        multiple = flex_attention.prepare_for_packing(job.policy)
        check_apart(job.policy)
        if multiple is None:  # every token is compared with all of its micro-batch: one sequence each
            arguments["gradient_accumulation_steps"] *= arguments["per_device_train_batch_size"]
            arguments["per_device_train_batch_size"] = 1
    config = SFTConfig(
        **arguments,
        max_length=packed,  # TRL packs up to it and cuts nothing, since longer rows are left out before
        packing=packed is not None,
        eval_packing=False,
        packing_strategy="bfd",
        pad_to_multiple_of=multiple,
        completion_only_loss=False,  # the rows say themselves where the loss is
        shuffle_dataset=False,
        dataset_num_proc=None,
    )
    return SFTTrainer(
        model=job.policy,
        args=config,
        train_dataset=rows,
        eval_dataset=validation,
        processing_class=job.tokenizer,
        peft_config=job.run.model.adapter_config(),
    )


def check_apart(policy: Any) -> None:
    """Put two documents into one sequence, as packing does, and change the first. Raises `UserError` where the second notices:
    the model or its attention takes no heed of positions that begin anew.
    """
    import torch

    length = flex_attention.BLOCK
    words = torch.arange(1, 2 * length + 1, device=policy.device)
    positions = torch.arange(length, device=policy.device).repeat(2)[None]
    texts = torch.arange(2, dtype=torch.int32, device=policy.device).repeat_interleave(length)[None]
    seen = []
    with torch.no_grad():
        for first in (words[:length], words[:length].flip(0)):
            ids = torch.cat([first, words[length:]])[None]
            seen.append(policy(input_ids=ids, position_ids=positions, seq_idx=texts, use_cache=False).logits[0, length:])
    if not torch.allclose(*seen):
        raise UserError(
            f"algo.packing: packed rows would see each other in {type(policy).__name__} with "
            f"{policy.config._attn_implementation} attention; set algo.packing=false."
        )
