"""DPO in rounds (S3): sample with the policy as it is now, grade, pair, train, and begin again from what was learned."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.algos.base import Job
from medrl.algos.samples import SelfSampledPreference, as_tokens
from medrl.algos.token_budget import LOGGED
from medrl.errors import Interrupted, UserError
from medrl.files import START_OVER, read_jsonl, write_jsonl
from medrl.training import checkpoints
from medrl.training.distributed import rank, wait_for_all
from medrl.training.trainer import fit, write_model

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow

ROUNDS = "rounds.jsonl"
"""In ``train/``: the figures of each round."""
REFERENCE = "ref"
"""TRL's name for the frozen copy of an adapter that is trained on."""


@dataclass(frozen=True, kw_only=True)
class IterativeDPO(SelfSampledPreference):
    """``rounds`` times DPO. In each the policy at its start is the reference.

    ``steps``, ``epochs`` and the schedule of the learning rate are those of one round. All weights: the reference is a second
    model that takes over the policy's weights before each round. LoRA: one adapter on the unchanged base is trained
    through all rounds, and a frozen copy of it is the reference; merging it into the base between rounds would lose bits of a
    4-bit base and leave no adapter to publish.

    ``train/round-N/`` holds a round's samples, pairs, checkpoints and the model that it ended with; ``train/rounds.jsonl`` its
    figures; ``train/log.jsonl`` the steps of all rounds, counted on.
    """

    kind: ClassVar[str] = "iterative_dpo"
    shards: ClassVar[bool] = False

    rounds: Annotated[int, Gt(0)]
    """Times of sampling, grading and training."""
    beta: Annotated[float, Gt(0)]
    """KL penalty coefficient against the model of the round's start."""
    keep_rounds: bool
    """Keep the model of every round and ask each what the last one is asked; otherwise only the last stays."""

    def train(self, job: Job, out: Path) -> None:
        last = max((number for number in range(1, self.rounds + 1) if _model(job, number).exists()), default=0)
        for number in range(last + 1, self.rounds + 1):
            if job.stop.signal is not None:
                raise Interrupted(
                    f"Stopped after round {last} of {self.rounds}. Run the same command again to go on.", job.stop.signal
                )
            if self.max_generated_tokens and _spent(self._earlier(job, number)) >= self.max_generated_tokens:
                print(
                    f"round    {number} is left out: algo.max_generated_tokens={self.max_generated_tokens} is spent", flush=True
                )
                break
            folder = _folder(job, number)
            folder.mkdir(exist_ok=True)
            if rank() == 0:
                checkpoints.newest(folder)  # looks at every byte, once and not in every process
            wait_for_all()
            newest = checkpoints.newest(folder, verified=True)
            started = replace(job, policy=_start(job, last), folder=folder, checkpoint=newest)
            if not self._round(started, job, number):
                break
            last = number
            wait_for_all()
        if rank() == 0:
            self._clean(job, last)
            _publish(_model(job, last), out, keep=self.keep_rounds)
        wait_for_all()

    def earlier(self, work: Path) -> dict[str, Path]:
        """The models of the rounds before the last one that trained."""
        kept = {f"round-{number}": work / f"round-{number}" / "model" for number in range(1, self.rounds + 1)}
        standing = [(name, model) for name, model in kept.items() if model.exists()]
        return dict(standing[:-1])

    @property
    def models_asked(self) -> int:
        return super().models_asked + self.keep_rounds * (self.rounds - 1)

    def most_generated_tokens(self, run: Sections) -> int | None:
        most = super().most_generated_tokens(run)
        return most and most * self.rounds

    def rows(self, rows: Sequence[TrainingRow], number: int) -> list[TrainingRow]:
        """The rows of a round: each goes on where the one before ended, and begins anew at the end of the mix."""
        first = (number - 1) * self.prompts
        return [rows[at % len(rows)] for at in range(first, first + self.prompts)]

    def _round(self, job: Job, whole: Job, number: int) -> bool:
        """One round, from 1 on, from where it was left, of the job ``whole``; ``job`` has its folder, its newest checkpoint, and
        the policy at its start. False where the samples gave too few pairs to go on.
        """
        print(f"round    {number} of {self.rounds}", flush=True)
        seed = job.run.seed + (number - 1) * 1_000_003  # a prompt that comes again is answered anew
        earlier = self._earlier(whole, number)
        pairs, figures = self.pairs(job, job.folder, self.rows(whole.rows, number), seed, _spent(earlier))
        before = earlier[-1]["steps"] if earlier else 0
        if number == 1:
            self.check_enough(pairs, "pairs of unequal reward")
        elif len(pairs) < self.batch_size:
            print(f"round    {number} has fewer pairs than one batch of {self.batch_size}: training ends with the round before")
            _note(whole, [*earlier, {"round": number, "steps": before, "trained": False, **figures}])
            return False
        trainer = self._trainer(job, whole, number, pairs)
        fit(trainer, job, whole.folder / "log.jsonl", before=before)
        steps = before + trainer.state.global_step
        _note(whole, [*earlier, {"round": number, "steps": steps, "trained": True, **figures}])
        self._write(trainer, job)
        wait_for_all()
        if rank() == 0:
            self._clean(whole, number)
        return True

    def _earlier(self, whole: Job, number: int) -> list[dict[str, Any]]:
        """The figures of the rounds before one. Raises `UserError` where they are lost."""
        kept, copy = whole.folder / ROUNDS, _folder(whole, number - 1) / ROUNDS
        stands = kept.read_bytes() if kept.is_file() else b""
        sealed = number > 1 and rank() == 0 and not kept.is_dir() and not checkpoints.fault(copy.parent)
        if sealed and not stands.startswith(copy.read_bytes()):
            write_jsonl(kept, read_jsonl(copy))
            print(f"rounds   {kept} was lost or changed; it is again what {copy.parent.name} keeps of it", flush=True)
        wait_for_all()
        lines = [line for line in read_jsonl(kept, START_OVER, needs=("round", "steps")) if line["round"] < number]
        if [line["round"] for line in lines] != [*range(1, number)]:
            raise UserError(f"{kept} lacks rounds of the {number - 1} that are done; {START_OVER}.")
        return lines

    def _trainer(self, job: Job, whole: Job, number: int, pairs: Sequence[Any]) -> Any:
        from trl import DPOConfig, DPOTrainer

        lora = job.run.model.lora
        options: dict[str, Any] = {"ref_model": None if lora else whole.policy}
        if number > 1:
            options["peft_config"] = None  # the policy carries its adapter
        config = DPOConfig(**self.arguments(job), beta=self.beta, max_length=None)
        trainer = self.trainer(DPOTrainer, config, job, as_tokens(job, pairs), **options)
        if lora and number > 1 and job.checkpoint:
            _load_adapter(trainer.model, job.checkpoint)
        return trainer

    def _write(self, trainer: Any, job: Job) -> None:
        """Write the round's model; an adapter is taken off the base, on which the next round puts it from the disk."""
        if not job.run.model.lora:
            write_model(trainer, job, job.folder / "model", self)
            return
        adapted = trainer.accelerator.unwrap_model(trainer.model)
        if REFERENCE in adapted.peft_config:
            adapted.delete_adapter(REFERENCE)
        write_model(trainer, job, job.folder / "model", self)
        adapted.unload()

    def _clean(self, whole: Job, last: int) -> None:
        """Remove what finished rounds need no more."""
        for number in range(1, last + 1):
            for checkpoint in checkpoints.begun(_folder(whole, number)):
                shutil.rmtree(checkpoint)
            if number < last and not self.keep_rounds:
                shutil.rmtree(_model(whole, number), ignore_errors=True)


def _spent(earlier: Sequence[Mapping[str, Any]]) -> int:
    """Tokens that rounds have generated, by their figures."""
    return sum(line.get(LOGGED, 0) for line in earlier)


def _folder(job: Job, number: int) -> Path:
    return job.folder / f"round-{number}"


def _model(job: Job, number: int) -> Path:
    """Where a finished round leaves its model."""
    return _folder(job, number) / "model"


def _start(job: Job, last: int) -> Any:
    """The policy as the round ``last`` left it, always from the disk, so that a resumed run starts as an unbroken one does.

    Where all weights are trained, ``job.policy`` becomes the reference and takes over the same weights.
    """
    from medrl.models import loading
    from medrl.models.base import trained

    if not job.run.model.lora:
        if not last:
            return copy.deepcopy(job.policy)
        policy, _ = trained(job.run.model, job.run.hardware, job.run.seed, _model(job, last))
        job.policy.load_state_dict(policy.state_dict())
        return policy
    if not last:
        return job.policy
    checkpoints.check_model(_model(job, last))
    return loading.adapter(job.policy, _model(job, last), trainable=True)


def _load_adapter(policy: Any, checkpoint: Path) -> None:
    """Load the adapter that is trained from a checkpoint that holds its reference, too.

    transformers 5.17 then loads the adapters in folders of their own, which is the reference alone, and trains on from the start
    of the round in silence.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(policy, load_peft_weights(str(checkpoint)), adapter_name="default")


def _publish(model: Path, out: Path, *, keep: bool) -> None:
    """The last round's model as the run's, in one step."""
    if not keep:
        model.replace(out)
        return
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(model, partial)
    partial.replace(out)


def _note(whole: Job, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the figures of rounds, and a copy with its hash into the last round's folder."""
    if rank() == 0:
        copy = _folder(whole, lines[-1]["round"]) / ROUNDS
        for path in (whole.folder / ROUNDS, copy):
            write_jsonl(path, lines)
        checkpoints.mark_complete(copy.parent, [copy])
