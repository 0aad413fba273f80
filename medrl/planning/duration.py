"""How long a run may take on a card that it was never run on: operations and bytes, over what a card reaches of its data sheet.

What a card reaches was measured on one H200 with Qwen2.5-3B's shape (docs/planning.md has the figures). Matrix products and
reading scale with the card; what the host does for each layer and token does not. Lengths are the limits where nobody knows them
yet. So these are estimates; half or twice as long is no surprise.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from medrl.models.generation import fitting_budget
from medrl.planning.memory import GIB, Shape, Training, training
from medrl.training.cards import Card

if TYPE_CHECKING:
    from medrl.algos.base import TrainedAlgo
    from medrl.config.schema import Run

REACHED_TFLOPS = 0.22
"""Share of the sheet's matrix products that training reached: four micro-batches of 16 real prompts and completions, padded, with
checkpointing, in 1.2 s each."""
REACHED_BANDWIDTH = 0.9
"""Share of the sheet's bandwidth that reading reached: 4.3 of 4.8 TB/s."""
VLLM_SECONDS = 0.0048
"""What a token of all completions takes vLLM beside reading weights and cache: 3.4 s for 512 tokens of 64 completions."""
VLLM_START = 60.0
"""Seconds until vLLM answers: it compiles, and records its graphs."""
VLLM_AT_ONCE = 256
"""Completions that vLLM writes at a time, or more on large cards."""
LAYER_SECONDS = {False: 0.00113, True: 0.00138}
"""What a layer takes transformers' ``generate`` for a token of all completions, which is the host's time: 20.9 s for 512 tokens
in 36 layers; with weights in 4 bits 25.5."""


class Duration(NamedTuple):
    """Estimated seconds."""

    step: float
    """An optimizer step, with the completions that it learns from."""
    before: float
    """Completions that are sampled before training."""


class Pace(NamedTuple):
    """What a card does with a model."""

    card: Card
    held: Training
    shape: Shape

    @property
    def weights(self) -> int:
        """Of the model, in numbers."""
        return sum(self.shape.parameters)

    @property
    def host_seconds(self) -> float:
        """What one pass through all layers takes the host, however little there is to compute."""
        return LAYER_SECONDS[self.held.quantized] * self.shape.layers

    def pass_seconds(self, tokens: float, passes: float) -> float:
        """Products of so many passes through the weights: forward is one, back through the activations another."""
        return 2 * passes * self.weights * tokens / (self.card.tflops * 1e12 * REACHED_TFLOPS)

    def completion_seconds(self, completions: int, prompt: float, new: int, *, vllm: bool) -> float:
        """Completions that are written at once, token by token, after their prompts were read."""
        shape = self.shape
        cached = 4 * shape.layers * shape.key_value_heads * shape.head_dim * (prompt + new / 2)  # keys and values in 16 bits
        weights = 2 * self.weights if vllm else self.held.weights()
        reading = (weights + completions * cached) / (self.card.gb_s * 1e9 * REACHED_BANDWIDTH)
        token = reading + VLLM_SECONDS if vllm else max(reading, self.host_seconds)
        return new * token + self.pass_seconds(completions * prompt, 1)


def pace(run: Run, measured: Shape) -> Pace | None:
    """None where the card is not known, and on a CPU."""
    card = run.hardware.known_card if run.hardware.device == "cuda" else None
    return Pace(card, training(run.hardware, run.model, measured), measured) if card else None


def of_training(run: Run, algo: TrainedAlgo, found: Pace, known: float) -> Duration:
    """What an optimizer step takes, and what comes before the first, of a run whose hardware is decided (`medrl.planning.fit`),
    with what `pace` has found. ``known``: tokens of a sequence before anything is generated, their mean or their limit.
    """
    work, hardware = algo.footprint(run, round(known)), run.hardware
    share = algo.batch_size / hardware.processes
    passes = 2 + (run.model.lora is None) + bool(hardware.gradient_checkpointing)
    passes += bool(work.frozen or getattr(algo, "beta", 0))  # the model before training: a copy, or the adapter switched off
    vllm = hardware.rollout == "vllm" and algo.uses_rollout_engine
    passes += vllm and not hardware.shared_prompts  # TRL's old log-probabilities
    seconds = found.pass_seconds(share * work.sequences * work.tokens, passes)
    _, micro_batches = hardware.split(algo.batch_size)
    seconds = max(seconds, micro_batches * passes * found.host_seconds)  # of a small model
    rounds = getattr(algo, "num_mini_batches", 1)
    if work.completion:
        written = ceil(share * rounds)
        completing = found.completion_seconds(written, known, work.completion, vllm=vllm)
        seconds += completing / (rounds * getattr(algo, "num_iterations", 1))
    before = getattr(algo, "prompts", 0) * getattr(algo, "num_generations", 1) * getattr(algo, "rounds", 1)
    sampled = getattr(algo, "max_completion_tokens", 0)
    return Duration(seconds, of_answers(run, found, ceil(before / hardware.processes), known, sampled))


def of_answers(run: Run, found: Pace, completions: int, prompt: float, new: int) -> float:
    """Seconds in which so many completions are written outside training; by transformers in batches that suit the card."""
    if not completions:
        return 0.0
    if run.hardware.rollout == "vllm":
        at_once = min(completions, VLLM_AT_ONCE)
        return VLLM_START + ceil(completions / at_once) * found.completion_seconds(at_once, prompt, new, vllm=True)
    shape, memory = found.shape, int((run.hardware.memory_gib or found.card.memory_gib) * GIB)
    budget = run.eval.batch_tokens or fitting_budget(
        shape.layers, shape.key_value_heads * shape.head_dim, shape.intermediate, shape.vocabulary, memory
    )
    batch = max(1, min(completions, int(budget // (prompt + new))))
    return ceil(completions / batch) * found.completion_seconds(batch, prompt, new, vllm=False)
