"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on pairs made from the model's own graded samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Le

from medrl.algos.base import Job, Optimised, peft_config, run_trainer
from medrl.errors import Problem, UserError
from medrl.files import read_jsonl, write_jsonl

if TYPE_CHECKING:
    from medrl.config import Run


@dataclass(frozen=True, kw_only=True)
class DPO(Optimised):
    """Sample, grade with the reward set, pair the best against the worst, and train TRL's DPOTrainer on the pairs."""

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
            write_jsonl(
                kept, (pair for row, texts in zip(rows, self._sample(job), strict=True) if (pair := _pair(job, row, texts)))
            )
        return read_jsonl(kept)

    def _sample(self, job: Job) -> list[list[tuple[str, bool]]]:
        """``num_generations`` completions of each prompt, as ``(text, finished)``."""
        from tqdm import tqdm

        from medrl.generate import Sampling, engine

        sampling = Sampling(self.temperature, self.top_p, self.max_completion_tokens, job.run.seed)
        prompts = [row.messages for row in job.rows[: self.prompts] for _ in range(self.num_generations)]
        found: dict[int, tuple[str, bool]] = {}
        with tqdm(total=len(prompts), desc="sample", unit="completion") as bar:
            for batch in engine(job.run, job.policy, job.tokenizer).complete(prompts, sampling):
                found |= {position: (made.text, made.finished) for position, made in batch.items()}
                bar.update(len(batch))
        texts = [found[position] for position in range(len(prompts))]
        return [texts[start : start + self.num_generations] for start in range(0, len(texts), self.num_generations)]


def _pair(job: Job, row: Any, texts: Sequence[tuple[str, bool]]) -> dict[str, Any] | None:
    """The best and the worst of one prompt's samples, or None where the reward tells no two apart."""
    from medrl.rewards.base import Completion

    scored = [(job.run.reward_set.total(Completion(text, row, finished)), text) for text, finished in texts]
    best, worst = max(scored), min(scored)
    if best[0] == worst[0]:
        return None
    return {
        "prompt": row.messages,
        "chosen": [{"role": "assistant", "content": best[1]}],
        "rejected": [{"role": "assistant", "content": worst[1]}],
        "reward_chosen": best[0],
        "reward_rejected": worst[0],
        "task": row.example.task,
        "id": row.example.id,
    }
