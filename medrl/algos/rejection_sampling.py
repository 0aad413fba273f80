"""Rejection-sampling fine-tuning (Yuan et al. 2023, arXiv 2308.01825): the policy imitates those of its own completions that
are right.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from medrl.algos.base import Footprint, Job
from medrl.algos.samples import Sample, SelfSampled, check_desirable, desirable
from medrl.algos.sft import imitating
from medrl.errors import Problem
from medrl.files import write_jsonl
from medrl.training.distributed import rank
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections


@dataclass(frozen=True, kw_only=True)
class RejectionSampling(SelfSampled):
    """Samples of each prompt, those that are not right rejected, the rest imitated by TRL's SFTTrainer."""

    kind: ClassVar[str] = "rejection_sampling"

    desirable_reward: float | None
    """Completions that the reward set pays at least so much are kept; null: those that it calls right."""
    max_kept: Annotated[int, Gt(0)]
    """Most completions kept of one prompt, the best paid first: an easy prompt shall not outweigh a hard one."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        yield from check_desirable(self, run)

    def num_rows(self, run: Sections) -> int:
        return self.prompts * min(self.max_kept, self.num_generations)

    def footprint(self, run: Sections, known: int) -> Footprint:
        return Footprint(tokens=known + self.max_completion_tokens, scored=known + self.max_completion_tokens)

    def train(self, job: Job, out: Path) -> None:
        from datasets import Dataset

        rows = job.rows[: self.prompts]
        samples = self.samples(job, rows, job.folder / "samples.jsonl", job.run.seed)
        rows = rows[: len(samples) // self.num_generations]
        kept = self.kept(samples, job.run.seed)
        answered = len({sample["row"] for sample in kept})
        print(f"kept     {len(kept)} of {len(samples)} completions, to {answered} of {len(rows)} prompts", flush=True)
        if rank() == 0:
            write_jsonl(job.folder / "kept.jsonl", kept)
        self.check_enough(kept, "completions to imitate")
        tokens = [job.rendering.tokens(rows[sample["row"]].messages, sample["text"]).labelled() for sample in kept]
        run_trainer(imitating(self, job, Dataset.from_list(tokens)), job, out, self)

    def kept(self, samples: Sequence[Sample], seed: int) -> list[Sample]:
        """Samples to imitate: good ones, of equal texts one, of each prompt the best paid.

        Among those that are paid alike ``seed`` draws: any rule on the texts would teach that rule.
        """
        good = {(each["row"], each["text"]): each for each in samples if desirable(each, self.desirable_reward)}
        drawn = random.Random(f"rejection:{seed}").sample([*good.values()], len(good))
        taken: Counter[int] = Counter()
        kept = []
        for sample in sorted(drawn, key=lambda sample: (sample["row"], -sample["reward"])):
            taken[sample["row"]] += 1
            if taken[sample["row"]] <= self.max_kept:
                kept.append(sample)
        return kept
