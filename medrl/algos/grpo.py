"""Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300): several completions a prompt, paid by rewards,
each compared with the others of its group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from medrl.algos.base import Job, Optimised, peft_config, run_trainer
from medrl.answers import opening
from medrl.errors import Problem
from medrl.generate import eos_token_ids

if TYPE_CHECKING:
    from medrl.config import Run


@dataclass(frozen=True, kw_only=True)
class GRPO(Optimised):
    """TRL's GRPOTrainer. ``batch_size`` counts completions: ``batch_size / num_generations`` prompts a step."""

    rewarded: ClassVar[bool] = True

    num_generations: Annotated[int, Gt(1)]
    """Completions of a prompt, the group within which advantages are taken."""
    max_completion_tokens: Annotated[int, Gt(0)]
    temperature: Annotated[float, Gt(0)]
    top_p: Annotated[float, Gt(0), Le(1)]
    beta: Annotated[float, Ge(0)]
    """Price of the divergence from the model before training; 0 keeps no reference model."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
    """How the token losses are normalised (TRL names a mistake here only at the first loss, so it is checked before)."""
    scale_rewards: Literal["group", "batch", "none"]
    """What advantages are divided by: the group's or the batch's standard deviation, or nothing (Dr. GRPO)."""
    importance_sampling_level: Literal["token", "sequence"]
    """``sequence`` with ``loss_type=grpo`` is GSPO (Zheng et al. 2025, arXiv 2507.18071)."""
    num_iterations: Annotated[int, Gt(0)]
    """Optimiser steps on each set of completions."""
    epsilon: Annotated[float, Gt(0)]
    """Clip range of the probability ratio, below 1 and, unless ``epsilon_high`` says otherwise, above it."""
    epsilon_high: Annotated[float, Gt(0)] | None
    mask_truncated: bool
    """Leave completions that the token limit cut out of the loss."""

    def problems(self, run: Run) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.batch_size % self.num_generations:
            lower = self.batch_size // self.num_generations * self.num_generations
            near = [size for size in (lower, lower + self.num_generations) if size]
            yield Problem(
                "batch_size",
                f"{self.batch_size} does not divide by num_generations={self.num_generations}; "
                f"write {' or '.join(str(size) for size in near)}",
            )
        room = run.model.context_tokens
        if run.data_mix.max_prompt_tokens + self.max_completion_tokens > room:
            yield Problem(
                "max_completion_tokens",
                f"{self.max_completion_tokens} and data_mix.max_prompt_tokens={run.data_mix.max_prompt_tokens} are more than "
                f"the model's context of {room}",
            )

    @property
    def align(self) -> int:
        return self.num_iterations

    def train(self, job: Job, out: Path) -> None:
        from trl import GRPOConfig, GRPOTrainer

        run = job.run
        eos = eos_token_ids(job.policy, job.tokenizer)
        trainer = GRPOTrainer(
            model=job.policy,
            args=GRPOConfig(**self.arguments(job), **self._options(run)),
            reward_funcs=list(run.reward_set.functions(job.rows, eos, opening(job.tokenizer))),
            train_dataset=_dataset(job),
            processing_class=job.tokenizer,
            peft_config=peft_config(run),
        )
        run_trainer(trainer, job, out, self.align)

    def _options(self, run: Run) -> dict[str, Any]:
        """This algorithm's options in TRL's words."""
        options: dict[str, Any] = {
            "num_generations": self.num_generations,
            "max_completion_length": self.max_completion_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "beta": self.beta,
            "loss_type": self.loss_type,
            "scale_rewards": self.scale_rewards,
            "importance_sampling_level": self.importance_sampling_level,
            "num_iterations": self.num_iterations,
            "epsilon": self.epsilon,
            "epsilon_high": self.epsilon_high,
            "mask_truncated_completions": self.mask_truncated,
            "reward_weights": list(run.reward_set.weights.values()),
            "log_completions": True,
            "num_completions_to_print": 0,  # they go to train/completions/, not to the terminal
        }
        if run.hardware.rollout == "vllm":
            options |= {
                "use_vllm": True,
                "vllm_mode": "colocate",
                "vllm_gpu_memory_utilization": run.hardware.vllm_memory_share,
                "vllm_max_model_length": run.data_mix.max_prompt_tokens + self.max_completion_tokens,
            }
        return options


def _dataset(job: Job) -> Any:
    """Prompts, with the position by which a reward finds its row again."""
    from datasets import Dataset

    return Dataset.from_list([{"prompt": row.messages, "row": index} for index, row in enumerate(job.rows)])
