"""A reward model as a reward: a sequence classifier with one output, trained on preference pairs (Ouyang et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.config.bounds import TOKENS, Most
from medrl.config.identity import Values, of_run, of_weights, planned
from medrl.errors import UserError
from medrl.models import architecture, base, loading
from medrl.models.chat_templates import ready
from medrl.models.tokenization import Rendering
from medrl.rewards.base import Completion, Reward, Scores


@dataclass(frozen=True, kw_only=True)
class RewardModel(Reward):
    """The model's logit for prompt and completion, or its sigmoid. A raw logit has no bounds."""

    kind: ClassVar[str] = "reward_model"
    not_learned: ClassVar[frozenset[str]] = frozenset({"weights", "revision", "batch_size", "any_tokenizer"})
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    loads_weights: ClassVar[bool] = True
    looks_at_gold: ClassVar[bool] = True  # in its weights: it has learned which answers are better

    weights: str
    """Hub id or folder of a sequence classifier with one label and its tokenizer."""
    revision: str | None
    """Branch, tag or commit on the hub."""
    sigmoid: bool
    """Squash the logit into (0, 1), so that no outlier outweighs the other rewards."""
    max_tokens: Annotated[int, Gt(0), TOKENS]
    """Longer conversations are cut on the left, so that the answer is read."""
    batch_size: Annotated[int, Gt(0), Most(10**6, "a batch is computed at once")]
    """Conversations that are scored at once."""
    any_tokenizer: bool
    """Let the reward model read through a tokenizer and chat template that are not the policy's. It scores text, so it can;
    but a special token of one is plain characters to the other, so it has to be meant."""

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raises `UserError` where the tokenizers differ, or the reward model's cannot be read."""
        from medrl.models.from_run import planned

        folder = Path(self.weights)
        if folder.parent in planned and not folder.exists():  # a stage of a chain will train it, from the policy's own base
            return
        own = _tokenizer(self.weights, self.revision)
        if self.any_tokenizer:
            return
        for what, ours, theirs in (
            ("vocabulary", own.get_vocab(), tokenizer.get_vocab()),
            ("chat template", own.chat_template, tokenizer.chat_template),
        ):
            if ours != theirs:
                raise UserError(
                    f"The reward model {self.weights} has another {what} than the policy; train one from the same model "
                    "(algo=rm), or set any_tokenizer=true beside its weights to let it read through its own."
                )

    def identity(self) -> Values:
        """Weights in the ``model/`` of a run go by the run, because a chain names its stages before it trains them."""
        folder = Path(self.weights)
        if not folder.is_dir() and folder.parent.resolve() not in planned:
            return super().identity() | {"repository": self.weights, "revision": self.revision}
        if folder.name == "model" and (folder.parent.resolve() in planned or (folder.parent / "provenance.json").exists()):
            return super().identity() | {"run": of_run(folder.parent)}
        return super().identity() | of_weights(folder)

    def fingerprint(self) -> dict[str, str]:
        """A hash of weights in a folder, the commit of those on the hub."""
        from medrl.data.hf_hub import hub_commit

        folder = Path(self.weights)
        return of_weights(folder) if folder.is_dir() else {"commit": hub_commit("model", self.weights, self.revision)}

    def score(self, completion: Completion) -> float | None:
        return self.score_all([completion])[0]

    def score_all(self, completions: Sequence[Completion]) -> Scores:
        """Raises `UserError` where the weights cannot be fetched or read, or are no reward model."""
        import torch

        model, tokenizer = _loaded(self.weights, self.revision)
        rendering = Rendering(tokenizer)
        read = [rendering.tokens(completion.row.messages, completion.text).ids for completion in completions]
        scores: list[float] = []
        for start in range(0, len(read), self.batch_size):
            rows = {"input_ids": [ids[-self.max_tokens :] for ids in read[start : start + self.batch_size]]}
            batch = tokenizer.pad(rows, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                logits = model(**batch).logits[:, 0].float()
            scores += (logits.sigmoid() if self.sigmoid else logits).tolist()
        return list(scores)


@cache
def _loaded(weights: str, revision: str | None) -> tuple[Any, Any]:
    """Model and tokenizer, once a process."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    tokenizer = _tokenizer(weights, revision)
    with _explained(weights):
        config = AutoConfig.from_pretrained(weights, revision=revision, trust_remote_code=False)
        if config.num_labels != 1:
            raise UserError(f"{weights} gives {config.num_labels} labels; a reward model gives one number.")
        architecture.check(config.to_dict(), weights, "AutoModelForSequenceClassification", trusted=False)
        head = AutoModelForSequenceClassification
        if Path(weights).is_dir():
            architecture.check_size(Path(weights), lambda: head.from_config(config))
        options = {"revision": revision, "trust_remote_code": False, "dtype": torch.float32}
        model = loading.weights(head.from_pretrained, weights, **options)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


@cache
def _tokenizer(weights: str, revision: str | None) -> Any:
    """The reward model's own tokenizer, with the template through which it reads."""
    from transformers import AutoTokenizer, PretrainedConfig

    base.quiet()
    with _explained(weights):
        declared = PretrainedConfig.get_config_dict(weights, revision=revision)[0]
        if not declared:
            raise OSError("it has no config.json")
        options = {"revision": revision, "trust_remote_code": False}
        tokenizer = loading.tokenizer(AutoTokenizer.from_pretrained, declared, weights, weights, **options)
        if tokenizer.chat_template is None:
            raise UserError(f"{weights} has no chat template; a reward model reads prompt and completion through its own.")
        return ready(tokenizer, None, weights)


def _explained(weights: str) -> AbstractContextManager[None]:
    said = "holds no reward model that transformers can read"
    return loading.explained(weights, said=said, on_hub=not Path(weights).exists())
