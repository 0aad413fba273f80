"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on pairs made from the model's own graded samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Gt, Le

from medrl.algos.base import Job, Optimised, peft_config, run_trainer
from medrl.errors import Problem, UserError
from medrl.files import read_jsonl, write_jsonl
from medrl.tasks.base import Kind

if TYPE_CHECKING:
    from medrl.config import Run
    from medrl.generate import Generated
    from medrl.mix import Prompted


@dataclass(frozen=True, kw_only=True)
class DPO(Optimised):
    """Sample, grade with the reward set, pair the best against the worst, and train TRL's DPOTrainer on the pairs.

    Rows that are preference pairs themselves are taken as they are.
    """

    reads: ClassVar[tuple[Kind, ...]] = ("question", "preference")
    rewarded: ClassVar[bool] = True

    beta: Annotated[float, Gt(0)]
    """Price of leaving the model before training."""
    prompts: Annotated[int, Gt(0)]
    """Rows of the mix that are sampled for pairs."""
    num_generations: Annotated[int, Gt(1)]
    """Completions sampled for each."""
    max_completion_tokens: Annotated[int, Gt(0)]
    temperature: Annotated[float, Gt(0)]
    top_p: Annotated[float, Gt(0), Le(1)]

    def problems(self, run: Run) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.prompts > run.data_mix.rows:
            yield Problem("prompts", f"is {self.prompts}, the mix draws data_mix.rows={run.data_mix.rows}")

    def train(self, job: Job, out: Path) -> None:
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        pairs = self.pairs(job)
        if len(pairs) < self.batch_size:
            raise UserError(
                f"{self.prompts} prompts gave {len(pairs)} pairs of unequal reward, fewer than one batch of {self.batch_size}; "
                "raise algo.prompts, algo.num_generations or algo.temperature."
            )
        trainer = DPOTrainer(
            model=job.policy,
            args=DPOConfig(**self.arguments(job), beta=self.beta, max_length=None),
            train_dataset=Dataset.from_list([{key: pair[key] for key in ("prompt", "chosen", "rejected")} for pair in pairs]),
            processing_class=job.tokenizer,
            peft_config=peft_config(job.run),
        )
        run_trainer(trainer, job, out)

    def pairs(self, job: Job) -> list[dict[str, Any]]:
        """Best against worst for each prompt whose samples differ in reward; kept in ``train/pairs.jsonl`` and read back."""
        kept = job.folder / "pairs.jsonl"
        if not kept.exists():
            rows = job.rows[: self.prompts]
            given = [_given(row) for row in rows if row.example.rejected]
            asked = [row for row in rows if not row.example.rejected]
            sampled = (_pair(job, row, made) for row, made in zip(asked, self._sample(job, asked), strict=True))
            write_jsonl(kept, [*given, *(pair for pair in sampled if pair)])
        return read_jsonl(kept)

    def _sample(self, job: Job, rows: Sequence[Prompted]) -> list[list[Generated]]:
        """``num_generations`` completions of each prompt."""
        from tqdm import tqdm

        from medrl.generate import Sampling, engine

        if not rows:
            return []
        sampling = Sampling(self.temperature, self.top_p, self.max_completion_tokens, job.run.seed)
        prompts = [row.messages for row in rows for _ in range(self.num_generations)]
        found: dict[int, Generated] = {}
        with tqdm(total=len(prompts), desc="sample", unit="completion") as bar:
            for batch in engine(job.run, job.policy, job.tokenizer).complete(prompts, sampling):
                found |= batch
                bar.update(len(batch))
        made = [found[position] for position in range(len(prompts))]
        return [made[start : start + self.num_generations] for start in range(0, len(made), self.num_generations)]


def _given(row: Prompted) -> dict[str, Any]:
    """A preference pair of the data set."""
    return _as_pair(row, row.example.gold, row.example.rejected, None, None)


def _pair(job: Job, row: Prompted, made: Sequence[Generated]) -> dict[str, Any] | None:
    """The best and the worst of one prompt's samples, or None where the reward tells no two apart."""
    from medrl.rewards.base import Completion

    completions = [Completion(each.text, row, each.finished, each.tokens) for each in made]
    scored = list(zip(job.run.reward_set.totals(completions), (each.text for each in made), strict=True))
    best, worst = max(scored), min(scored)
    return _as_pair(row, best[1], worst[1], best[0], worst[0]) if best[0] > worst[0] else None


def _as_pair(row: Prompted, chosen: str, rejected: str, better: float | None, worse: float | None) -> dict[str, Any]:
    return {
        "prompt": row.messages,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "reward_chosen": better,
        "reward_rejected": worse,
        "task": row.example.task,
        "id": row.example.id,
    }
