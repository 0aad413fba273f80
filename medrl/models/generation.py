"""Generation outside training: for evaluation and for preference pairs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from medrl.data.prompts import Messages
from medrl.models.tokenization import Rendering


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
        tokenizer: The model's.
        context_tokens: Longest prompt and completion together.
        budget: Most tokens of a batch, padding and completions included.
        """
        self.policy, self.tokenizer, self.rendering = policy.eval(), tokenizer, Rendering(tokenizer)
        self.context_tokens, self.budget = context_tokens, budget

    def complete(
        self,
        prompts: Sequence[Messages],
        sampling: Sampling,
        done: Collection[int] = (),
        tick: Callable[[float], None] | None = None,
    ) -> Iterator[dict[int, Generated]]:
        """Complete prompts batch by batch: yields each batch as ``{position: completion}``.

        A prompt that leaves no room for a completion is answered with nothing, unfinished; it is never cut. A batch of
        which all positions are ``done`` is passed over; the others come out as if nothing had been done. After each token of a
        batch, ``tick`` hears how many completions of it are made, were each as long as it may be.
        """
        read = [self.rendering.prompt(prompt) for prompt in prompts]
        lengths = [len(ids) for ids in read]
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
            drawn = replace(sampling, max_new_tokens=limit, seed=sampling.seed + positions[0])
            yield dict(zip(positions, self._batch([read[p] for p in positions], drawn, tick), strict=True))

    def _batch(self, prompts: list[list[int]], sampling: Sampling, tick: Callable[[float], None] | None) -> list[Generated]:
        return [self._generated(ids) for ids in sample(self.policy, self.tokenizer, prompts, sampling, tick)]

    def _generated(self, ids: list[int]) -> Generated:
        finished = ids[-1] in eos_token_ids(self.policy, self.tokenizer)
        kept = ids[:-1] if finished else ids
        return Generated(self.rendering.opening + self.tokenizer.decode(kept, skip_special_tokens=True), len(kept), finished)


def sample(
    policy: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    tick: Callable[[float], None] | None = None,
    **options: Any,
) -> list[list[int]]:
    """Complete prompts in one batch with transformers' ``generate``. The global random state is left as it was.

    Args:
        policy: In evaluation mode, so that gradient checkpointing leaves its cache alone.
        tokenizer: Pads.
        prompts: Their token ids (`Rendering.prompt`).
        sampling: How completions are drawn.
        tick: Told after each token how many completions the tokens so far would make.
        options: Further fields of transformers' ``GenerationConfig``, in the place of the model's own.

    Returns:
        For each prompt the ids of the completion: with its closing token, unless the token limit cut it.
    """
    import torch
    from transformers import GenerationConfig

    greedy, eos, device = sampling.temperature == 0, eos_token_ids(policy, tokenizer), policy.device
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=not greedy,
        temperature=None if greedy else sampling.temperature,
        top_p=None if greedy else sampling.top_p,
        top_k=None if greedy else 0,
        eos_token_id=sorted(eos),
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
    read = max(map(len, prompts))
    inputs = {
        "input_ids": torch.tensor([[tokenizer.pad_token_id] * (read - len(ids)) + ids for ids in prompts], device=device),
        "attention_mask": torch.tensor([[0] * (read - len(ids)) + [1] * len(ids) for ids in prompts], device=device),
    }

    def never(ids: Any, scores: Any, **_: Any) -> Any:
        """Stop nothing: transformers calls this after each token."""
        if tick:
            tick(len(prompts) * (ids.shape[1] - read) / sampling.max_new_tokens)
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(sampling.seed)
        output = policy.generate(**inputs, generation_config=config, stopping_criteria=[never])
    return [_ended(ids, eos) for ids in output[:, read:].tolist()]


def _ended(ids: list[int], eos: set[int]) -> list[int]:
    """A completion without the padding after its closing token."""
    return ids[: next((place for place, token in enumerate(ids, start=1) if token in eos), len(ids))]


def eos_token_ids(policy: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a completion, the tokenizer's and the model's own."""
    declared = policy.generation_config.eos_token_id
    listed = declared if isinstance(declared, list) else [declared]
    return {token for token in (tokenizer.eos_token_id, *listed) if token is not None}
