"""Generation outside TRL: for evaluation, for preference pairs, for PPO; and the one decoding of this project.

A model folder may bring a decoding of its own (``generation_config.json``): a repetition penalty, n-gram bans, suppressed
tokens. `neutral` takes it from every policy that is loaded, so that what is sampled in training, what is evaluated before it
and what after it are the same policy's, and two models of one table are decoded alike.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from medrl.config.identity import digest
from medrl.data.prompts import Messages
from medrl.errors import UserError
from medrl.models.tokenization import Rendering


class Generated(NamedTuple):
    """One completion."""

    text: str
    """Without the prompt and without special tokens; with what the chat template opened of it (R1's ``<think>``)."""
    tokens: int
    finished: bool
    """Whether it ended itself; false where the token limit cut it, or where the prompt left no room at all."""
    about: Mapping[str, Any] = MappingProxyType({})
    """What else there is to know of it, kept beside it: of a model behind an API what was served, and what it took."""


NEUTRAL: dict[str, Any] = {
    "num_beams": 1, "num_return_sequences": 1, "early_stopping": False, "length_penalty": 1.0, "min_length": 0,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "remove_invalid_values": False,
    **dict.fromkeys((
        "min_new_tokens", "max_time", "stop_strings", "min_p", "top_h", "bad_words_ids", "renormalize_logits",
        "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "suppress_tokens",
        "begin_suppress_tokens", "sequence_bias", "token_healing", "guidance_scale", "watermarking_config", "penalty_alpha",
        "dola_layers", "diversity_penalty", "num_beam_groups", "constraints", "force_words_ids", "prompt_lookup_num_tokens",
        "speculation_type", "use_mtp", "decoder_start_token_id",
    )),
}  # fmt: skip
"""Every field of transformers' ``GenerationConfig`` that changes a completion, with the value that changes nothing. A test fails
where transformers has a field that is neither here nor known to change none."""
ASKED = ("do_sample", "temperature", "top_k", "top_p", "max_new_tokens")
"""Fields that `Sampling` decides."""
IDS = ("eos_token_id", "pad_token_id", "bos_token_id")
"""All that a model's own decoding keeps."""
EngineName = Literal["transformers", "vllm"]
DRAWN: dict[EngineName, str] = {
    "transformers": "by the inverse of the distribution function, with a generator of each example and sample",
    "vllm": "by vLLM, with a generator of each example and sample",
}
"""How each engine draws."""


def decoding_digest(engine: EngineName) -> str:
    """Eight hex digits of what decides a completion besides the model, its prompt and `Sampling`.

    Two engines round otherwise, so that their greedy completions part, too, where two tokens are nearly as likely.
    """
    return digest({"neutral": NEUTRAL, "drawn": DRAWN[engine]})


def neutral(policy: Any, tokenizer: Any) -> Any:
    """Take the model's own decoding from it, all but the ids of its special tokens, and return it.

    Where a field is not set, transformers' ``generate`` takes it from the model: ours, and TRL's trainers', which set few.
    vLLM in TRL's trainers is given all of its sampling parameters, so that it takes from the model folder the ids alone.
    """
    from transformers import GenerationConfig

    own = policy.generation_config
    ids = {"eos_token_id": sorted(eos_token_ids(policy, tokenizer)), "pad_token_id": own.pad_token_id}
    policy.generation_config = GenerationConfig(bos_token_id=own.bos_token_id, **ids)
    return policy


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn."""

    temperature: float
    """0 is greedy."""
    top_p: float
    max_new_tokens: int
    seed: int

    def as_json(self, policy: Any, tokenizer: Any, engine: EngineName) -> dict[str, Any]:
        """The effective generation configuration, every field that changes a completion, in transformers' names; and whose
        completions they are.
        """
        sampled = self.temperature > 0
        asked = (sampled, self.temperature if sampled else None, 0, self.top_p if sampled else None, self.max_new_tokens)
        own = policy.generation_config
        ids = (sorted(eos_token_ids(policy, tokenizer)), tokenizer.pad_token_id, own.bos_token_id)
        drawn = {"drawn": DRAWN[engine], "seed": self.seed} if sampled else {}
        about = {**dict(zip(ASKED, asked, strict=True)), **NEUTRAL, **dict(zip(IDS, ids, strict=True)), **drawn}
        return {"engine": engine, **about}


Tell = Callable[[str], bool | None]
"""Hears words of a completion; what it returns says whether these are enough, so that no more are written."""


class Asked(NamedTuple):
    """A prompt to be completed."""

    ids: list[int]
    """Its tokens."""
    limit: int
    """Most tokens of its completion."""
    key: str
    """What tells it from the others: with the seed of `Sampling` it decides what is drawn, whatever stands beside it."""


def fitting_tokens(policy: Any) -> int:
    """Tokens of a batch, padding and completions included, that suit the device: on a GPU what a quarter of its memory holds,
    halved until half of what is free holds them; on a CPU what a minute or so completes, since a kill loses the batch.

    The shape of a batch turns close tokens in 16 bits, so that it must not follow every byte that another process takes.
    """
    import torch

    if policy.device.type != "cuda":
        return CPU_TOKENS
    shape = policy.config.get_text_config()
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    keys = (getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads) * head
    inner = getattr(shape, "intermediate_size", None) or 4 * shape.hidden_size
    free, total = torch.cuda.mem_get_info(policy.device)
    tokens = fitting_budget(shape.num_hidden_layers, keys, inner, shape.vocab_size, total)
    while tokens > CPU_TOKENS and tokens * _token_bytes(shape.num_hidden_layers, keys, inner, shape.vocab_size) > free // 2:
        tokens //= 2
    return max(CPU_TOKENS, tokens)


def fitting_budget(layers: int, keys: int, intermediate: int, vocabulary: int, memory: int) -> int:
    """Tokens of a batch that a quarter of a GPU's memory, in bytes, holds; ``keys`` is the width of a layer's keys, all heads
    together, ``intermediate`` that of the feed-forward block.
    """
    return max(CPU_TOKENS, min(MOST_TOKENS, memory // 4 // _token_bytes(layers, keys, intermediate, vocabulary)))


def _token_bytes(layers: int, keys: int, intermediate: int, vocabulary: int) -> int:
    """Keys and values, what reading a prompt holds, and the distribution of a row, four copies in 64 bit: a row has 128 tokens or
    more.
    """
    return 4 * layers * keys + 8 * intermediate + vocabulary * 32 // 128


CPU_TOKENS = 2**14
MOST_TOKENS = 2**18


def batches(lengths: Sequence[int], new_tokens: int, budget: int) -> Iterator[list[int]]:
    """Positions of prompts in batches of similar length, longest first, each within ``budget`` padded tokens."""
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


class Engine(ABC):
    """Completes prompts."""

    def __init__(self, policy: Any, tokenizer: Any, context_tokens: int) -> None:
        """Args:
        policy: The model, with its adapter where it has one.
        tokenizer: The model's.
        context_tokens: Longest prompt and completion together.
        """
        self.policy, self.tokenizer, self.rendering = policy.eval(), tokenizer, Rendering(tokenizer)
        self.context_tokens = context_tokens

    def complete(
        self,
        prompts: Sequence[Messages],
        keys: Sequence[str],
        sampling: Sampling,
        done: Collection[int] = (),
        tick: Callable[[float], None] | None = None,
    ) -> Iterator[dict[int, Generated]]:
        """Complete the prompts that are not ``done``, batch by batch: yields each batch as ``{position: completion}``.

        A completion depends on its own prompt, its own key (`Asked.key`) and the seed, and on nothing that it is batched with.
        A prompt that leaves no room for a completion is answered with nothing, unfinished; it is never cut. While a batch is
        written, ``tick`` hears how many completions of it are made.
        """
        left = [position for position in range(len(prompts)) if position not in set(done)]
        asked = {position: self._limited(prompts[position], keys[position], sampling) for position in left}
        if too_long := {position: Generated("", 0, False) for position, each in asked.items() if each.limit <= 0}:
            yield too_long
        yield from self._completed({at: each for at, each in asked.items() if at not in too_long}, sampling, tick)

    @abstractmethod
    def _completed(
        self, asked: Mapping[int, Asked], sampling: Sampling, tick: Callable[[float], None] | None
    ) -> Iterator[dict[int, Generated]]:
        """Completions of prompts by their positions, batch by batch."""

    def asked(self, prompt: Messages, key: str, sampling: Sampling) -> Asked:
        """A conversation as it is completed. Raises `UserError` where it leaves no room, or the chat template refuses it."""
        asked = self._limited(prompt, key, sampling)
        if asked.limit <= 0:
            raise UserError(f"The conversation has {len(asked.ids)} tokens, and the model's context is {self.context_tokens}.")
        return asked

    def _limited(self, prompt: Messages, key: str, sampling: Sampling) -> Asked:
        ids = self.rendering.prompt(prompt)
        return Asked(ids, min(sampling.max_new_tokens, self.context_tokens - len(ids)), key)

    def _generated(self, ids: list[int]) -> Generated:
        finished = ids[-1] in eos_token_ids(self.policy, self.tokenizer)
        kept = ids[:-1] if finished else ids
        return Generated(self.rendering.opening + self.tokenizer.decode(kept, skip_special_tokens=True), len(kept), finished)


class Transformers(Engine):
    """Batched generation with transformers, on whatever device the policy is."""

    def __init__(self, policy: Any, tokenizer: Any, context_tokens: int, budget: int | None) -> None:
        """``budget``: most tokens of a batch, padding and completions included; None for what suits the device."""
        super().__init__(policy, tokenizer, context_tokens)
        self.budget = budget or fitting_tokens(policy)

    def stream(self, prompt: Messages, key: str, sampling: Sampling, tell: Tell) -> Generated:
        """`complete` for one prompt, which tells each word as soon as it is written; with what the template opens, first. Raises
        `UserError` where the prompt leaves no room for a completion.
        """
        asked = self.asked(prompt, key, sampling)
        tell(self.rendering.opening)
        (made,) = sample(self.policy, self.tokenizer, [asked], sampling, tell=tell)
        return self._generated(made)

    def _completed(
        self, asked: Mapping[int, Asked], sampling: Sampling, tick: Callable[[float], None] | None
    ) -> Iterator[dict[int, Generated]]:
        positions = [*asked]
        for batch in batches([len(each.ids) for each in asked.values()], sampling.max_new_tokens, self.budget):
            chosen = [positions[index] for index in batch]
            yield dict(zip(chosen, self._batch([asked[position] for position in chosen], sampling, tick), strict=True))

    def _batch(self, asked: list[Asked], sampling: Sampling, tick: Callable[[float], None] | None) -> list[Generated]:
        return [self._generated(ids) for ids in sample(self.policy, self.tokenizer, asked, sampling, tick)]


def sample(
    policy: Any,
    tokenizer: Any,
    asked: Sequence[Asked],
    sampling: Sampling,
    tick: Callable[[float], None] | None = None,
    tell: Tell | None = None,
) -> list[list[int]]:
    """Complete prompts in one batch with transformers' ``generate``. The global random state is neither read nor changed.

    Args:
        policy: Made `neutral`, and in evaluation mode, so that gradient checkpointing leaves its cache alone.
        tokenizer: Pads.
        asked: The prompts, each with its own limit.
        sampling: How completions are drawn.
        tick: Told after each token how many completions the tokens so far would make.
        tell: Told each word of the completion of a single prompt; True ends it there.

    Returns:
        For each prompt the ids of the completion: with its closing token, unless the token limit cut it.
    """
    import torch
    from transformers import GenerationConfig

    eos, device, pad = eos_token_ids(policy, tokenizer), policy.device, tokenizer.pad_token_id
    read, longest = max(len(each.ids) for each in asked), max(each.limit for each in asked)
    limits = torch.tensor([each.limit for each in asked], device=device)
    inputs = {
        "input_ids": torch.tensor([[pad] * (read - len(each.ids)) + each.ids for each in asked], device=device),
        "attention_mask": torch.tensor([[0] * (read - len(each.ids)) + [1] * len(each.ids) for each in asked], device=device),
    }

    def full(ids: Any, scores: Any, **_: Any) -> Any:
        """Whether each completion is as long as it may be: transformers asks after each token."""
        made = ids.shape[1] - read
        if tick:
            tick(len(asked) * made / longest)
        return limits <= (longest if streamer and streamer.enough else made)

    config = GenerationConfig(
        max_new_tokens=longest, do_sample=False, eos_token_id=sorted(eos), pad_token_id=pad, disable_compile=True, **NEUTRAL
    )
    drawn = [_draw(asked, sampling, read, device)] if sampling.temperature > 0 else []
    streamer = _streamer(tokenizer, tell) if tell else None
    with torch.no_grad():
        output = policy.generate(
            **inputs, generation_config=config, stopping_criteria=[full], logits_processor=drawn, streamer=streamer
        )
    return [_ended(ids, eos)[: each.limit] for ids, each in zip(output[:, read:].tolist(), asked, strict=True)]


def _streamer(tokenizer: Any, tell: Tell) -> Any:
    """A streamer that waits for the end of each word, as transformers' own does, and tells it instead of printing."""
    from transformers import TextStreamer

    class Teller(TextStreamer):  # type: ignore[misc]
        enough = False

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.enough = bool(tell(text)) or self.enough

    return Teller(tokenizer, skip_prompt=True, skip_special_tokens=True)


def _draw(asked: Sequence[Asked], sampling: Sampling, read: int, device: Any) -> Callable[[Any, Any], Any]:
    """A logits processor that draws each row's token, and leaves it as the only one that can be chosen.

    A row draws with numbers of its own, made on the CPU of its key and the seed: the same on every device, in every batch.
    """
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    numbers = torch.stack([_uniform(each, sampling.seed, max(one.limit for one in asked)) for each in asked]).to(device)
    warp = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_p < 1:
        warp.append(TopPLogitsWarper(sampling.top_p))

    def draw(ids: Any, scores: Any) -> Any:
        """Scores: ``[rows, vocabulary]``."""
        cumulative = warp(ids, scores).softmax(-1).cumsum(-1, dtype=torch.float64)
        point = numbers[:, ids.shape[1] - read, None] * cumulative[:, -1:]
        token = torch.searchsorted(cumulative, point, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)

    return draw


def _uniform(asked: Asked, seed: int, count: int) -> Any:
    """Numbers between 0 and 1, one a token."""
    import torch

    return torch.rand(count, generator=torch.Generator().manual_seed(own_seed(asked, seed)), dtype=torch.float64)


def own_seed(asked: Asked, seed: int) -> int:
    """The seed of one completion, a signed number of 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{asked.key}".encode()).digest()[:8], "big", signed=True)


def _ended(ids: list[int], eos: set[int]) -> list[int]:
    """A completion without the padding after its closing token."""
    return ids[: next((place for place, token in enumerate(ids, start=1) if token in eos), len(ids))]


def eos_token_ids(policy: Any, tokenizer: Any) -> set[int]:
    """Every token that ends a completion, the tokenizer's and the model's own."""
    declared = policy.generation_config.eos_token_id
    listed = declared if isinstance(declared, list) else [declared]
    return {token for token in (tokenizer.eos_token_id, *listed) if token is not None}
