"""A reward model as a reward: a sequence classifier with one output, trained on preference pairs (Ouyang et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.errors import UserError
from medrl.rewards.base import Completion, Reward, Scores


@dataclass(frozen=True, kw_only=True)
class RewardModel(Reward):
    """The model's logit for prompt and completion, or its sigmoid. A raw logit has no bounds."""

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    loads_weights: ClassVar[bool] = True

    weights: str
    """Hub id or folder of a sequence classifier with one label and its tokenizer."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    sigmoid: bool
    """Squash the logit into (0, 1), so that no outlier outweighs the other rewards."""
    max_tokens: Annotated[int, Gt(0)]
    """Longer conversations are cut on the left, so that the answer is read."""
    batch_size: Annotated[int, Gt(0)]
    """Conversations that are scored at once."""

    def score(self, completion: Completion) -> float | None:
        return self.score_all([completion])[0]

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        """Raises:
        UserError: the weights cannot be fetched or read, or are no reward model.
        """
        import torch

        model, tokenizer = _loaded(self.weights, self.revision)
        texts = [
            tokenizer.apply_chat_template(
                [*completion.row.messages, {"role": "assistant", "content": completion.text}], tokenize=False
            )
            for completion in completions
        ]
        scores: list[float] = []
        for start in range(0, len(texts), self.batch_size):
            batch = tokenizer(
                texts[start : start + self.batch_size],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                add_special_tokens=False,
            ).to(model.device)
            with torch.inference_mode():
                logits = model(**batch).logits[:, 0].float()
            scores += (logits.sigmoid() if self.sigmoid else logits).tolist()
        return list(scores)


@cache
def _loaded(weights: str, revision: str | None) -> tuple[Any, Any]:
    """Model and tokenizer, once a process."""
    import torch
    from httpx import HTTPError
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(weights, revision=revision)
        if config.num_labels != 1:
            raise UserError(f"{weights} gives {config.num_labels} labels; a reward model gives one number.")
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            weights, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(weights, revision=revision)
    except (OSError, ValueError, HTTPError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"{weights} holds no reward model that transformers can read ({first}).") from error
    if loading["missing_keys"]:  # which transformers fills with random numbers
        missing = ", ".join(sorted(loading["missing_keys"]))
        raise UserError(f"{weights} was never trained as a reward model: {missing} is not among its weights.")
    if tokenizer.chat_template is None:
        raise UserError(f"{weights} has no chat template; a reward model reads prompt and completion through its own.")
    tokenizer.truncation_side = tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer
