"""Generation outside training: for evaluation and for preference pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.answers import opening
from medrl.prompts import Messages

if TYPE_CHECKING:
    from medrl.config.schema import Run


class Generated(NamedTuple):
    """One completion."""

    text: str
    """Without the prompt and without special tokens; with what the chat template opened of it (R1's ``<think>``)."""
    tokens: int
    finished: bool
    """Whether it ended itself; false where the token limit cut it, or where the prompt left no room at all."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn."""

    temperature: float
    """0 is greedy."""
    top_p: float
    max_new_tokens: int
    seed: int


def token_count(tokenizer: Any, messages: Messages) -> int:
    """Length of a prompt after the chat template."""
    return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])


def batches(lengths: Sequence[int], new_tokens: int, budget: int) -> Iterator[list[int]]:
    """Positions of prompts in batches of similar length, longest first, each within ``budget`` padded tokens.

    The batches depend on the lengths alone, so that a resumed evaluation draws what an unbroken one would have drawn.
    """
    batch: list[int] = []
    longest = 0
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        longest = longest or lengths[position]
        if batch and (len(batch) + 1) * (longest + new_tokens) > budget:
            yield batch
            batch, longest = [], lengths[position]
        batch.append(position)
    if batch:
        yield batch


class Transformers:
    """Batched generation with transformers, on whatever device the policy is."""

    def __init__(self, policy: Any, tokenizer: Any, context_tokens: int, budget: int) -> None:
        """Args:
        policy: The model, with its adapter where it has one.
        tokenizer: Pads on the left.
        context_tokens: Longest prompt and completion together.
        budget: Most tokens of a batch, padding and completions included.
        """
        self.policy, self.tokenizer, self.opening = policy.eval(), tokenizer, opening(tokenizer)
        self.context_tokens, self.budget = context_tokens, budget

    def complete(
        self, prompts: Sequence[Messages], sampling: Sampling, done: Collection[int] = ()
    ) -> Iterator[dict[int, Generated]]:
        """Complete prompts batch by batch: yields each batch as ``{position: completion}``.

        A prompt that leaves no room for a completion is answered with nothing, unfinished; it is never cut. A batch of
        which all positions are ``done`` is passed over; the others come out as if nothing had been done.
        """
        texts = [self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False) for prompt in prompts]
        lengths = [len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        room = [position for position, length in enumerate(lengths) if length < self.context_tokens]
        too_long = {position: Generated("", 0, False) for position in range(len(prompts)) if position not in set(room)}
        if not set(too_long) <= set(done):
            yield too_long
        for batch in batches([lengths[position] for position in room], sampling.max_new_tokens, self.budget):
            positions = [room[index] for index in batch]
            if set(positions) <= set(done):
                continue
            longest = max(lengths[position] for position in positions)
            limit = min(sampling.max_new_tokens, self.context_tokens - longest)
            yield dict(zip(positions, self._batch([texts[p] for p in positions], sampling, limit, positions[0]), strict=True))

    def _batch(self, texts: list[str], sampling: Sampling, limit: int, first: int) -> list[Generated]:
        import torch
        from transformers import GenerationConfig

        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.policy.device)
        greedy = sampling.temperature == 0
        eos = eos_token_ids(self.policy, self.tokenizer)
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=not greedy,
            temperature=None if greedy else sampling.temperature,
            top_p=None if greedy else sampling.top_p,
            top_k=None if greedy else 0,
            eos_token_id=sorted(eos),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        torch.manual_seed(sampling.seed + first)
        with torch.inference_mode():
            output = self.policy.generate(**inputs, generation_config=config)
        completions = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._generated(ids, eos) for ids in completions]

    def _generated(self, ids: list[int], eos: set[int]) -> Generated:
        end = next((place for place, token in enumerate(ids) if token in eos), None)
        kept = ids if end is None else ids[:end]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        return Generated(self.opening + text, len(kept), end is not None)


def eos_token_ids(policy: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a completion, the tokenizer's and the model's own."""
    declared = policy.generation_config.eos_token_id
    listed = declared if isinstance(declared, list) else [declared]
    return {token for token in (tokenizer.eos_token_id, *listed) if token is not None}


def engine(run: Run, policy: Any, tokenizer: Any) -> Transformers:
    """Generation for a policy that is already in memory."""
    return Transformers(policy, tokenizer, run.model.context_tokens, run.eval.batch_tokens)
