"""What algorithms share that learn from the rewards of completions sampled while they train."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from medrl.algos.base import Footprint, Job, SamplingAlgo
from medrl.config.bounds import COMPLETIONS
from medrl.errors import Problem, UserError
from medrl.grading.answers import opening
from medrl.models.generation import eos_token_ids
from medrl.training.trainer import run_trainer

if TYPE_CHECKING:
    from medrl.config.sections import Sections


@dataclass(frozen=True, kw_only=True)
class OnlineRL(SamplingAlgo):
    """Several completions a prompt, paid by the reward set, each compared with the others of its group.

    ``batch_size`` counts completions: ``batch_size / num_generations`` prompts an optimizer step. Completions are generated
    for ``num_mini_batches`` steps at once, and each step is taken ``num_iterations`` times; where both are 1, every step sees
    completions of the very model that it changes, all probability ratios are 1, and no clip range has an effect.
    """

    uses_rollout_engine: ClassVar[bool] = True
    scores_while_training: ClassVar[bool] = True

    num_generations: Annotated[int, Gt(1), COMPLETIONS]
    """Completions of a prompt, the group within which advantages are taken."""
    beta: Annotated[float, Ge(0)]
    """KL penalty coefficient against the model before training; 0 keeps no reference model."""
    num_mini_batches: Annotated[int, Gt(0)]
    """Optimizer steps among which the completions of one round of generation are divided."""
    num_iterations: Annotated[int, Gt(0)]
    """Optimizer steps on each set of completions."""
    epsilon: Annotated[float, Gt(0)]
    """Clip range of the probability ratio, below 1 and, unless ``epsilon_high`` says otherwise, above it."""
    epsilon_high: Annotated[float, Gt(0)] | None
    """Upper clip range; null is epsilon."""
    mask_truncated: bool
    """Leave completions that the token limit cut out of the loss."""

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        prompts = self.batch_size * self.num_mini_batches // self.num_generations
        if self.num_mini_batches > 1 and prompts > run.data_mix.rows:
            yield Problem(
                "batch_size",
                f"{self.batch_size} times num_mini_batches={self.num_mini_batches} asks for completions of {prompts} prompts, "
                f"and the mix draws data_mix.rows={run.data_mix.rows}",
            )

    @property
    def group(self) -> int:
        return self.num_generations

    @property
    def least_rows(self) -> int:
        return super().least_rows * self.num_mini_batches

    def steps_per_epoch(self, run: Sections) -> int:
        """TRL leaves the prompts out that do not fill a batch, and uses each set of completions ``num_iterations`` times."""
        return run.data_mix.rows * self.group // self.batch_size * self.num_iterations

    def footprint(self, run: Sections, known: int) -> Footprint:
        longest = self.max_completion_tokens
        return Footprint(
            tokens=known + longest,
            scored=longest,
            completion=longest,
            frozen=int(self.beta > 0 and run.model.lora is None),  # an adapter is switched off instead
        )

    @property
    def checkpoint_every(self) -> int:
        return self.num_mini_batches * self.num_iterations

    @abstractmethod
    def trainer(self, job: Job) -> Any:
        """TRL's trainer for the job."""

    def train(self, job: Job, out: Path) -> None:
        """Raises `UserError` where the model would see padding."""
        check_padding(job.policy)
        run_trainer(self.trainer(job), job, out, self)

    def arguments(self, job: Job) -> dict[str, Any]:
        """Options of TRL's online trainers, in its words."""
        run, shared = job.run, super().arguments(job)
        options: dict[str, Any] = {
            "steps_per_generation": shared["gradient_accumulation_steps"] * self.num_mini_batches,
            "num_generations": self.num_generations,
            "beta": self.beta,
            "num_iterations": self.num_iterations,
            "epsilon": self.epsilon,
            "epsilon_high": self.epsilon_high,
            "mask_truncated_completions": self.mask_truncated,
            "reward_weights": list(run.reward_set.weights.values()),
        }
        return shared | rollout_arguments(self, job) | options

    def materials(self, job: Job) -> dict[str, Any]:
        """What TRL's online trainers are made of besides their options: the model, the rewards and the prompts."""
        eos = eos_token_ids(job.policy, job.tokenizer)
        return {
            "model": job.policy,
            "reward_funcs": list(job.run.reward_set.functions(job.rows, eos, opening(job.tokenizer), job.scored)),
            "train_dataset": prompts(job),
            "processing_class": job.rendering.chat_tokenizer(),
            "peft_config": job.run.model.adapter_config(),
        }


def rollout_arguments(algo: SamplingAlgo, job: Job) -> dict[str, Any]:
    """How completions are written while a TRL trainer trains, in its words."""
    run = job.run
    options: dict[str, Any] = {
        "max_completion_length": algo.max_completion_tokens,
        "temperature": algo.temperature,
        "top_p": algo.top_p,
        "disable_dropout": True,  # it would sample from another model than the one that learns, and make ratios of noise
        "log_completions": True,
        "shuffle_dataset": not algo.easy_first,
        "num_completions_to_print": 0,  # they go to train/completions/, not to the terminal
    }
    if run.hardware.rollout == "vllm":
        options |= {
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": run.hardware.vllm_memory_share,
            "vllm_enable_sleep_mode": run.hardware.sleeps,
            "vllm_max_model_length": run.data_mix.max_prompt_tokens + algo.max_completion_tokens,
        }
    return options


def check_padding(policy: Any) -> None:
    """Put padding before a text: the model must predict its next tokens as it does without.

    TRL's trainers pad prompts on the left and tell no positions, so that a model with a vector for each absolute position
    (GPT-2, GPT-Neo) would learn from probabilities of another text.

    Only models with another embedding than that of their words are asked: in 16 bits rounding alone moves what some relative
    positions predict by a third (SmolLM2). Raises `UserError` where it predicts something else.
    """
    import torch

    words = policy.get_input_embeddings()
    if not any(isinstance(each, torch.nn.Embedding) and each is not words for each in policy.modules()):
        return
    length, padding = 16, 48
    text = torch.arange(1, length + 1, device=policy.device)[None]
    ids = torch.cat([text.new_ones(1, padding), text], dim=1)
    mask = torch.cat([text.new_zeros(1, padding), torch.ones_like(text)], dim=1)
    with torch.no_grad():
        alone = policy(input_ids=text, use_cache=False).logits[0].float()
        padded = policy(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, padding:].float()
    alone, padded = (each - each.mean(-1, keepdim=True) for each in (alone, padded))
    if (alone - padded).norm() > 0.2 * alone.norm():  # GPT-2: 1.0; OPT, which finds its positions in the mask: 0
        raise UserError(
            f"{type(policy).__name__} has learned absolute positions, which padding on the left moves, and TRL's trainers do not "
            "tell it where a text begins; write algo=ppo, or train another model."
        )


def prompts(job: Job) -> Any:
    """Prompts, with the position by which a reward finds its row again."""
    from datasets import Dataset

    return Dataset.from_list([{"prompt": row.messages, "row": index} for index, row in enumerate(job.rows)])
