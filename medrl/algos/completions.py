"""Completions of the policy inside training: sampled, scored by the reward set, and summed up for the log."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.grading.answers import opening
from medrl.models.generation import Asked, Sampling, eos_token_ids, sample

if TYPE_CHECKING:
    from torch import Tensor

    from medrl.algos.base import Job
    from medrl.rewards.base import Scores


class Episode(NamedTuple):
    """One prompt and what the policy wrote to it, as token ids."""

    row: int
    """Position of the training row."""
    prompt: list[int]
    completion: list[int]
    """With its closing token, unless the token limit cut it."""


def episodes(job: Job, policy: Any, rows: Sequence[int], sampling: Sampling) -> list[Episode]:
    """A completion for each of the training rows at these positions, in one batch, of the policy as it is now."""
    prompts = [job.rendering.prompt(job.rows[row].messages) for row in rows]
    asked = [Asked(prompt, sampling.max_new_tokens, str(place)) for place, prompt in enumerate(prompts)]
    if job.run.hardware.rollout == "vllm":
        from medrl.models.vllm_engine import Vllm

        written = Vllm(policy, job.tokenizer, job.run.model.context_tokens, job.run.hardware).sample(asked, sampling)
    else:
        written = sample(policy, job.tokenizer, asked, sampling)
    return [Episode(*episode) for episode in zip(rows, prompts, written, strict=True)]


def padded(episodes: Sequence[Episode], pad: int, device: Any) -> dict[str, Tensor]:
    """A micro-batch as tensors, no longer than its own longest rows, prompts padded on the left and completions on the right:
    ``input_ids`` and ``attention_mask`` of both together, and ``mask``, 1 on the tokens of completions alone.
    """
    import torch

    before, after = max(len(each.prompt) for each in episodes), max(len(each.completion) for each in episodes)
    rows = [(before - len(prompt), [*prompt, *completion], after - len(completion)) for _, prompt, completion in episodes]
    ids = torch.tensor([[pad] * left + tokens + [pad] * right for left, tokens, right in rows])
    attended = torch.tensor([[0] * left + [1] * len(tokens) + [0] * right for left, tokens, right in rows])
    return {
        "input_ids": ids.to(device),
        "attention_mask": attended.to(device),
        "mask": attended[:, before:].to(device),
    }


def position_ids(policy: Any, attention_mask: Tensor) -> dict[str, Tensor]:
    """Positions that count from each row's own first token, for a model that is told them.

    Of a model with learned absolute positions, padding on the left would move every token otherwise. Models without the argument
    (BLOOM) find their positions in the mask.
    """
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": (attention_mask.cumsum(1) - 1).clamp(min=0)}


class BatchScorer:
    """Scores completions with the run's reward set, through the same functions as TRL's trainers call."""

    def __init__(self, job: Job) -> None:
        self.job, self.eos = job, eos_token_ids(job.policy, job.tokenizer)
        self.functions: list[Callable[..., Scores]] = job.run.reward_set.functions(
            job.rows, self.eos, opening(job.tokenizer), job.scored
        )

    def score(self, episodes: Sequence[Episode]) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """A record a completion (prompt, completion, each reward's score, total, length, whether it ended itself); and what the
        rewards log besides: shares of right, unparsed and cut-off answers.
        """
        texts = self.job.tokenizer.batch_decode([each.completion for each in episodes], skip_special_tokens=True)
        metrics: dict[str, float] = {}
        batch: dict[str, Any] = {
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [each.completion for each in episodes],
            "row": [each.row for each in episodes],
            "log_metric": metrics.__setitem__,
        }
        scores = {function.__name__: function(**batch) for function in self.functions}
        totals = self.job.run.reward_set.weighted(scores)
        records = [
            {
                "prompt": self.job.rows[each.row].messages,
                "completion": batch["completions"][index],
                "scores": {name: values[index] for name, values in scores.items()},
                "reward": totals[index],
                "tokens": len(each.completion),
                "finished": each.completion[-1] in self.eos,
            }
            for index, each in enumerate(episodes)
        ]
        return records, metrics


def completion_metrics(records: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """What the log says of a set of completions, in the names of TRL's GRPOTrainer."""
    lengths = [record["tokens"] for record in records]
    ended = [record["tokens"] for record in records if record["finished"]]
    metrics: dict[str, float | None] = {
        "completions/mean_length": fmean(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": 1 - len(ended) / len(records),
        "completions/mean_terminated_length": fmean(ended) if ended else 0.0,
    }
    for name in records[0]["scores"]:
        scores = [record["scores"][name] for record in records if record["scores"][name] is not None]
        metrics[f"rewards/{name}/mean"] = fmean(scores) if scores else None
        metrics[f"rewards/{name}/std"] = _deviation(scores)
    rewards = [record["reward"] for record in records]
    return {**metrics, "reward": fmean(rewards), "reward_std": _deviation(rewards)}


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def save(records: Sequence[dict[str, Any]], step: int, folder: Path) -> None:
    """Write the completions beside the log."""
    from pyarrow import array, float64

    columns = {
        "prompt": [record["prompt"] for record in records],
        "completion": [record["completion"] for record in records],
        # all null where a reward abstained of the whole set, and a number all the same
        **{name: array([record["scores"][name] for record in records], float64()) for name in records[0]["scores"]},
        "advantage": [record["advantage"] for record in records],
    }
    write_columns(columns, step, folder)


def write_columns(columns: Mapping[str, Any], step: int, folder: Path) -> None:
    """Write a step's completions as TRL's GRPOTrainer does."""
    from pyarrow import parquet, table

    columns = {"step": [step] * len(columns["prompt"]), **columns}
    parquet.write_table(table(columns), folder / f"completions_{step:05d}.parquet")


def kept(trainer: Any, folder: Path) -> Any:
    """Trainer callback that writes each logged step's completions as GRPOTrainer does, which RLOOTrainer leaves out."""
    from transformers import TrainerCallback

    class KeepCompletions(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            logs = trainer._logs
            if not state.is_world_process_zero or not logs["prompt"]:
                return
            columns = {name: list(logs[name]) for name in ("prompt", "completion")}
            columns |= {name: list(values) for group in ("rewards", "extra") for name, values in logs[group].items()}
            columns["advantage"] = list(logs["advantages"])
            write_columns(columns, state.global_step, folder)

    return KeepCompletions()
