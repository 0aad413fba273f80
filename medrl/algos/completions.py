"""Completions of the policy inside training: written, scored by the reward set, and told of in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.grading.answers import opening
from medrl.models.generation import eos_token_ids

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


class Writer:
    """Samples completions of training rows with transformers' ``generate``."""

    def __init__(self, job: Job, temperature: float, top_p: float, max_completion_tokens: int) -> None:
        from transformers import GenerationConfig

        self.job, self.tokenizer = job, job.tokenizer
        self.eos = eos_token_ids(job.policy, job.tokenizer)
        self.config = GenerationConfig(
            max_new_tokens=max_completion_tokens,
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            top_k=0,
            repetition_penalty=1.0,  # the model's own config may have another, and samples must be the policy's
            eos_token_id=sorted(self.eos),
            pad_token_id=job.tokenizer.pad_token_id,
        )

    def write(self, policy: Any, rows: Sequence[int], seed: Sequence[int]) -> list[Episode]:
        """A completion for each row, in one batch.

        Args:
            policy: In evaluation mode, so that gradient checkpointing leaves its cache alone.
            rows: Positions of training rows.
            seed: Numbers that decide what is drawn. The global random state is left as it was: what is written must not
                depend on it, because a resumed trainer restores it only after the first batch is made.
        """
        import numpy
        import torch

        device = policy.device
        texts = [
            self.tokenizer.apply_chat_template(self.job.rows[row].messages, add_generation_prompt=True, tokenize=False)
            for row in rows
        ]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(int(numpy.random.SeedSequence(list(seed)).generate_state(1)[0]))
            output = policy.generate(**inputs, generation_config=self.config)
        prompts = [ids[kept].tolist() for ids, kept in zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)]
        completions = [self._ended(ids) for ids in output[:, inputs["input_ids"].shape[1] :].tolist()]
        return [Episode(*parts) for parts in zip(rows, prompts, completions, strict=True)]

    def _ended(self, ids: list[int]) -> list[int]:
        end = next((place for place, token in enumerate(ids, start=1) if token in self.eos), len(ids))
        return ids[:end]


def padded(episodes: Sequence[Episode], pad: int, device: Any) -> dict[str, Tensor]:
    """A micro-batch as tensors, no longer than its own longest rows: prompts padded on the left, completions on the right.

    Returns:
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


@dataclass(frozen=True)
class Paid:
    """What a set of completions earned."""

    records: list[dict[str, Any]]
    """One a completion: prompt, completion, each reward's score, total, length, whether it ended itself."""
    observed: dict[str, float]
    """What the rewards watched besides: shares of right, unparsed and cut-off answers."""


class Payer:
    """Scores completions with the run's reward set, through the same functions as TRL's trainers call."""

    def __init__(self, job: Job, eos: set[int]) -> None:
        self.job, self.eos = job, eos
        self.reward_set = job.run.reward_set
        self.functions: list[Callable[..., Scores]] = self.reward_set.functions(job.rows, eos, opening(job.tokenizer))

    def pay(self, episodes: Sequence[Episode]) -> Paid:
        """Decode and score."""
        texts = self.job.tokenizer.batch_decode([each.completion for each in episodes], skip_special_tokens=True)
        observed: dict[str, float] = {}
        batch: dict[str, Any] = {
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [each.completion for each in episodes],
            "row": [each.row for each in episodes],
            "log_metric": observed.__setitem__,
        }
        scores = {function.__name__: function(**batch) for function in self.functions}
        totals = self.reward_set.weighted(scores)
        records = [
            {
                "prompt": self.job.rows[each.row].messages,
                "completion": batch["completions"][place],
                "scores": {name: found[place] for name, found in scores.items()},
                "reward": totals[place],
                "tokens": len(each.completion),
                "finished": each.completion[-1] in self.eos,
            }
            for place, each in enumerate(episodes)
        ]
        return Paid(records, observed)


def told(records: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """What the log says of a set of completions, in the names of TRL's GRPOTrainer."""
    lengths = [record["tokens"] for record in records]
    ended = [record["tokens"] for record in records if record["finished"]]
    found = {
        "completions/mean_length": fmean(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/clipped_ratio": 1 - len(ended) / len(records),
        "completions/mean_terminated_length": fmean(ended) if ended else 0.0,
    }
    for name in records[0]["scores"]:
        given = [record["scores"][name] for record in records if record["scores"][name] is not None]
        found[f"rewards/{name}/mean"] = fmean(given) if given else None
        found[f"rewards/{name}/std"] = _deviation(given)
    rewards = [record["reward"] for record in records]
    return {**found, "reward": fmean(rewards), "reward_std": _deviation(rewards)}


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def keep(records: Sequence[dict[str, Any]], step: int, folder: Path) -> None:
    """Write the completions beside the log, in the columns of TRL's GRPOTrainer."""
    from pyarrow import array, float64, parquet, table

    columns = {
        "step": [step] * len(records),
        "prompt": [record["prompt"] for record in records],
        "completion": [record["completion"] for record in records],
        # all null where a reward abstained of the whole set, and a number all the same
        **{name: array([record["scores"][name] for record in records], float64()) for name in records[0]["scores"]},
        "advantage": [record["advantage"] for record in records],
    }
    parquet.write_table(table(columns), folder / f"completions_{step:05d}.parquet")
