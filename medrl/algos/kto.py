"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306): completions that are good or bad each by itself,
without pairs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.algos.base import Footprint, Job
from medrl.algos.samples import Sample, SelfSampledPreference, check_desirable, desirable, reference, whole_batches
from medrl.errors import Problem, UserError
from medrl.files import write_jsonl
from medrl.models.tokenization import Tokens
from medrl.training.distributed import rank
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow


@dataclass(frozen=True, kw_only=True)
class KTO(SelfSampledPreference):
    """All samples in TRL's KTOTrainer, labelled desirable or not. Of a preference pair both answers are taken, one of each."""

    kind: ClassVar[str] = "kto"
    least_micro_batch: ClassVar[int] = 2  # TRL refuses one, because it estimates the divergence within a micro-batch

    beta: Annotated[float, Gt(0)]
    """KL penalty coefficient against the model before training."""
    desirable_reward: float | None
    """Completions that the reward set pays at least so much are desirable; null: those that the task itself grades right."""
    desirable_weight: Annotated[float, Gt(0)] | None
    """Weight of the loss of desirable completions; null balances the two kinds."""
    undesirable_weight: Annotated[float, Gt(0)] | None
    """The same of the others."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if not self.batch_size % run.hardware.processes and run.hardware.split(self.batch_size)[0] < self.least_micro_batch:
            yield Problem("batch_size", f"{self.batch_size} leaves one completion to a micro-batch; KTO needs two or more")
        yield from check_desirable(self, run)

    def footprint(self, run: Sections, known: int) -> Footprint:
        return super().footprint(run, known)._replace(sequences=1)

    def train(self, job: Job, out: Path) -> None:
        from trl import KTOConfig

        labelled = self.labelled(job)
        good = sum(label for _, label in labelled)
        print(f"labels   {len(labelled)} completions, {good} of them desirable", flush=True)
        self.check_enough(labelled, "labelled completions")
        if good in (0, len(labelled)):
            kind = "desirable" if good else "undesirable"
            raise UserError(
                f"All {len(labelled)} completions are {kind}, so there is nothing to tell apart; raise algo.temperature or "
                "algo.prompts, or change algo.desirable_reward."
            )
        desirable, undesirable = self.weights(good, len(labelled) - good)
        weights = {"desirable_weight": desirable, "undesirable_weight": undesirable}
        config = KTOConfig(**self.arguments(job), **weights, beta=self.beta, max_length=None)
        rows = exchanged(whole_batches(labelled, self.batch_size), self.batch_size)
        run_trainer(self.trainer(trainer_class(), config, job, rows, ref_model=reference(job)), job, out, self)

    def weights(self, desirable: int, undesirable: int) -> tuple[float, float]:
        """Weights of the desirable and the undesirable completions, so many of each; one that is null brings their sums to 1 : 1,
        within Eq. 8 of the paper (1 to 4/3). Where both are null the commoner kind weighs 1.
        """
        first, second = self.desirable_weight, self.undesirable_weight
        if first is None and second is None:
            first, second = (1.0, None) if desirable >= undesirable else (None, 1.0)
        if first is None:
            assert second is not None
            return second * undesirable / desirable, second
        return first, first * desirable / undesirable if second is None else second

    def labelled(self, job: Job) -> list[tuple[Tokens, bool]]:
        """Completions and labels in an order of their own, because TRL takes them in the order in which they come and
        exchanges neighbours, which should not be answers to one prompt. As text they are kept in ``train/labelled.jsonl``.
        """
        rows = job.rows[: self.prompts]
        asked = [row for row in rows if not row.example.rejected]
        found = [*self._own(asked, self.samples(job, asked, job.folder / "samples.jsonl", job.run.seed))]
        same = 0
        for row in rows:
            if row.example.rejected:  # a pair of the data set
                both = ((row.example.gold, True), (row.example.rejected, False))
                better, worse = (job.rendering.tokens(row.messages, text).ids for text, _ in both)
                same += better == worse
                found += [(row, text, label) for text, label in both if better != worse]
        random.Random(f"kto:{job.run.seed}").shuffle(found)
        kept, lines = [], []
        for row, text, label in found:
            tokens = job.rendering.tokens(row.messages, text)
            if len(tokens.ids) <= job.run.model.context_tokens:
                kept.append((tokens, label))
                shown = job.rendering.pair(row.messages, text)._asdict()
                lines.append({**shown, "label": label, "task": row.example.task, "id": row.example.id})
        if same:
            print(f"labels   {same} pairs of the data set are left out, because both answers are the same tokens")
        if len(lines) < len(found):
            print(f"labels   {len(found) - len(lines)} completions do not fit in the model's context and are left out")
        if rank() == 0:
            write_jsonl(job.folder / "labelled.jsonl", lines)
        return kept

    def _own(self, asked: Sequence[TrainingRow], samples: Sequence[Sample]) -> Iterator[tuple[TrainingRow, str, bool]]:
        """Samples with their labels, without those that a judge left open."""
        for sample in samples:
            label = desirable(sample, self.desirable_reward)
            if label is not None:
                yield asked[sample["row"]], sample["text"], label


def exchanged(labelled: Sequence[tuple[Tokens, bool]], size: int) -> list[dict[str, Any]]:
    """Labelled completions in the columns of TRL's KTOTrainer, each with the one before it in its optimizer batch of ``size``.

    Of that one, written to a prompt that is not its own, the divergence from the reference is estimated (section 4.1).
    """
    rows: list[dict[str, Any]] = []
    for start in range(0, len(labelled), size):
        batch = labelled[start : start + size]
        for (tokens, label), (other, _) in zip(batch, [batch[-1], *batch[:-1]], strict=True):
            row = {"prompt_ids": tokens.prompt, "completion_ids": tokens.completion, "label": label}
            rows.append(row | {"KL_completion_ids": other.completion})
    return rows


def trainer_class() -> type[Any]:
    """TRL's KTOTrainer with one estimate of the divergence for an optimizer step, over the micro-batches of all processes.

    TRL's own is the mean over one micro-batch, so that another micro-batch would learn something else. It subtracts
    ``ref_KL_logps`` from the policy's ``KL_logps``, takes the mean and cuts it at 0; we hand it the reference's figure from
    which the estimate over the whole batch is what remains.
    """
    import torch
    from trl import KTOTrainer

    class WholeBatch(KTOTrainer):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.precompute_ref_logps = True  # a batch holds what the reference says of it

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
            written = []
            with torch.no_grad(), self.compute_loss_context_manager():
                for batch in batches:
                    batch["ref_logps"], batch["ref_KL_logps"] = self.compute_ref_log_probs(self.ref_model or self.model, batch)
                    written.append(self._compute_kl_logps(self.model, batch))
            ratios = torch.cat([ours - batch["ref_KL_logps"] for ours, batch in zip(written, batches, strict=True)])
            divergence = self.accelerator.reduce(ratios.mean(), reduction="mean")
            for ours, batch in zip(written, batches, strict=True):
                batch["ref_KL_logps"] = ours - divergence
            return batches, items

    return WholeBatch
