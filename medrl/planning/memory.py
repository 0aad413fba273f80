"""How much memory a training process takes, by part, from the architecture alone: no weights are loaded.

What each formula counts, and how far it was from what was measured, is in docs/planning.md; `benchmarks/memory.py` prints
the comparison. An estimate leaves out what no formula knows: the CUDA context (about half a GiB), the allocator's
fragmentation, and reward models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.data.hf_hub import Unreachable
from medrl.models.architecture import known_skeleton, tensor_shapes

if TYPE_CHECKING:
    from medrl.algos.base import Footprint, TrainedAlgo
    from medrl.config.schema import Run
    from medrl.models.base import Model, Pretrained
    from medrl.models.lora import Lora
    from medrl.training.hardware import Hardware

SHARDED = {
    # What each process keeps only its share of (Rajbhandari et al. 2020, arXiv 1910.02054, section 5; FSDP as their stage 3).
    "none": frozenset[str](),
    "zero2": frozenset({"gradients", "optimizer"}),
    "zero3": frozenset({"weights", "adapter", "gradients", "optimizer", "copies"}),
    "fsdp": frozenset({"weights", "adapter", "gradients", "optimizer", "copies"}),
}
GIB = 2**30
TILE_TOKENS, TILE_WORDS = 4096, 32768
"""Logits that TRL's fused head has room for, of however small a vocabulary (trl 1.16: kernels/chunked_logprob.py)."""


class Linear(NamedTuple):
    """A linear layer outside the output head."""

    name: str
    inputs: int
    outputs: int

    @property
    def kind(self) -> str:
        """The name by which an adapter's ``modules`` call it."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Shape:
    """An architecture: sizes that activations depend on, and how many weights there are where."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    parameters: tuple[int, ...]
    """Weights of each parameter tensor; a tied one counts once."""
    embeddings: int
    """Weights among them that are looked up."""
    linears: tuple[Linear, ...]


def shape(model: Any) -> Shape | None:
    """Measure a language model, for nothing on the meta device; None for one that is no transformer with attention heads."""
    import torch

    text = model.config.get_text_config()
    head, modules = model.get_output_embeddings(), dict(model.named_modules())
    return _shape(
        lambda name: getattr(text, name, None),
        [parameter.numel() for parameter in model.parameters()],
        sum(module.weight.numel() for module in modules.values() if isinstance(module, torch.nn.Embedding)),
        [
            Linear(name, module.in_features, module.out_features)
            for name, module in modules.items()
            if isinstance(module, torch.nn.Linear) and module is not head
        ],
    )


def stored_shape(folder: Path) -> Shape | None:
    """The same of the embedded weights, read off their file: the architecture's code takes two seconds to import."""
    sizes = tensor_shapes(folder / "model.safetensors")
    matrices = {name.removesuffix(".weight"): size for name, size in sizes.items() if len(size) == 2}
    embedding = matrices.pop("model.embed_tokens")
    return _shape(
        json.loads((folder / "config.json").read_text(encoding="utf-8")).get,
        [prod(size) for size in sizes.values()],
        prod(embedding),
        [Linear(name, columns, rows) for name, (rows, columns) in matrices.items()],
    )


def _shape(read: Callable[[str], Any], parameters: Sequence[int], embeddings: int, linears: Sequence[Linear]) -> Shape | None:
    """Sizes as ``config.json`` names them, with the usual values of what it leaves out."""
    layers, hidden, heads = (read(name) for name in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    if None in (layers, hidden, heads, read("vocab_size")):
        return None
    return Shape(
        layers=layers,
        hidden=hidden,
        intermediate=read("intermediate_size") or 4 * hidden,
        heads=heads,
        key_value_heads=read("num_key_value_heads") or heads,
        head_dim=read("head_dim") or hidden // heads,
        vocabulary=read("vocab_size"),
        parameters=tuple(parameters),
        embeddings=embeddings,
        linears=tuple(linears),
    )


@dataclass(frozen=True)
class Training:
    """How the weights of an architecture are held and trained, in bytes a value."""

    shape: Shape
    lora: Lora | None
    quantized: bool
    weight_bytes: int
    """Of a weight as it is stored: 4 where the weights themselves are trained."""
    compute_bytes: int
    """Of a value as the forward pass computes it."""
    dropout_bytes: int
    """Of a value of an adapter's dropout mask: 1 on a GPU; on a CPU it is as wide as what it drops."""

    def _adapts(self, kind: str) -> bool:
        return self.lora is not None and (self.lora.modules is None or kind in self.lora.modules)

    @property
    def adapter_bytes(self) -> int:
        """Of an adapter's weight: peft keeps them in float32 beside 16-bit weights, TRL in bfloat16 beside 4-bit ones."""
        return 2 if self.quantized else 4

    @property
    def trained(self) -> tuple[int, ...]:
        """Weights of each parameter tensor that is trained."""
        if self.lora:
            rank = self.lora.rank
            lengths = (0, 1)[self.lora.dora]  # DoRA trains one number more for each output
            adapted = [linear for linear in self.shape.linears if self._adapts(linear.kind)]
            return tuple(size for linear in adapted for size in (rank * linear.inputs, (rank + lengths) * linear.outputs))
        return self.shape.parameters

    @property
    def trained_bytes(self) -> int:
        """All trained weights, or all gradients."""
        return sum(self.trained) * (self.adapter_bytes if self.lora else self.weight_bytes)

    def weights(self) -> int:
        """The model without its adapter.

        nf4 takes half a byte a weight of a linear layer, a byte for each 64 of them, and 4 for each 256 of those (Dettmers
        et al. 2023, arXiv 2305.14314, section 3); embeddings, norms, biases and the head stay as they are.
        """
        total = sum(self.shape.parameters)
        if not self.quantized:
            return total * self.weight_bytes
        packed = [linear.inputs * linear.outputs for linear in self.shape.linears]
        blocks = [ceil(size / 64) for size in packed]
        nested = sum(block + 4 * ceil(block / 256) for block in blocks)
        return (total - sum(packed)) * self.weight_bytes + sum(ceil(size / 2) for size in packed) + nested

    def adapter(self) -> int:
        """The adapter's weights."""
        return self.trained_bytes if self.lora else 0

    def optimizer(self, name: str) -> int:
        """AdamW's two moments: as wide as the weight, with a step count a tensor; or in 8 bits with a float32 for each 256
        (Dettmers et al. 2022, arXiv 2110.02861, section 2), which leaves embeddings and tensors below 4,096 in 32.
        """
        if name == "adamw":
            return 2 * self.trained_bytes + 4 * len(self.trained)
        embeddings = 0 if self.lora else self.shape.embeddings
        wide = embeddings + sum(size for size in self.trained if size < 4096)
        blocks = sum(ceil(size / 256) for size in self.trained if size >= 4096) - ceil(embeddings / 256)
        return 8 * wide + 2 * (sum(self.trained) - wide + 4 * blocks)

    def update(self, name: str) -> int:
        """What an optimizer step holds besides: PyTorch's AdamW takes the root of all second moments at once on a GPU."""
        return self.trained_bytes if name == "adamw" else 0

    def activations(self, sequences: int, tokens: int, checkpointing: bool) -> int:
        """What lies there at most while the layers go backward.

        Args:
            sequences: Computed at once.
            tokens: Of each, padding included.
            checkpointing: One layer at a time is computed again, and lies there with the gradients of its feed-forward block
                (three values of its width); otherwise gradients take the room of what they free.
        """
        kept, positions = self.kept(sequences, tokens, checkpointing), sequences * tokens
        again = positions * (self._kept_by_layer(tokens) + 3 * self.shape.intermediate * self.compute_bytes)
        return kept + again if checkpointing else kept

    def kept(self, sequences: int, tokens: int, checkpointing: bool) -> int:
        """What the layers leave for the backward pass, of each its input alone with checkpointing: what lies beside the head."""
        positions = sequences * tokens
        residual = positions * self.shape.hidden * (self.compute_bytes if self.lora else 4)
        layer = residual if checkpointing else positions * self._kept_by_layer(tokens)
        mask = sequences * tokens * tokens  # one byte each, shared by the layers
        return self.shape.layers * layer + mask + positions * self._kept_by_norm() + residual + self.cast_weights()

    def cast_weights(self) -> int:
        """Mixed precision keeps a 16-bit copy of each trained matrix from the forward to the backward pass."""
        if self.lora or self.compute_bytes == self.weight_bytes:
            return 0
        return sum(linear.inputs * linear.outputs for linear in self.shape.linears) * self.compute_bytes

    def _kept_by_norm(self) -> int:
        """Bytes a token of an RMSNorm: its input in float32 and the root; where its gain is trained, the normed input too."""
        return 4 * self.shape.hidden + 4 + (0 if self.lora else 4 * self.shape.hidden)

    def _kept_by_layer(self, tokens: int) -> int:
        """Bytes a token of a decoder layer.

        Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1, go through a layer of GPT operator by operator and find
        34 h + 5 a s bytes a token. The same for a layer of Llama and Qwen2 as transformers and peft compute it:

        - RMSNorm computes in float32, and nothing is dropped out.
        - Attention is fused: queries, keys, values, output and the logarithm of the softmax's denominator, not the s x s
          scores; of s there is left the padding mask, which PyTorch widens to the compute type in every layer. Keys and
          values are repeated for all heads where sequences are padded.
        - The feed-forward block is gated: gate, its activation, and up, of which the product goes down.
        - A frozen matrix keeps no input. An adapter keeps its own input, and what lies between A and B; the input in a copy
          of its own with dropout, and with DoRA where it is wider than the computation (`medrl.training.lora_pass`).
        """
        shape, width = self.shape, self.compute_bytes
        queries = shape.heads * shape.head_dim
        attention = 4 * queries * width + 4 * shape.heads + tokens * width
        feed_forward = 3 * shape.intermediate * width
        inputs = (
            self._kept_inputs(("q_proj", "k_proj", "v_proj"), shape.hidden, False)
            + self._kept_inputs(("o_proj",), queries, True)
            + self._kept_inputs(("gate_proj", "up_proj"), shape.hidden, False)
            + self._kept_inputs(("down_proj",), shape.intermediate, False)
        )
        return 2 * self._kept_by_norm() + attention + feed_forward + inputs

    def _kept_inputs(self, kinds: tuple[str, ...], size: int, kept_anyway: bool) -> int:
        """Bytes a token that linear layers with one common input of ``size`` values keep of it."""
        width, shared = self.compute_bytes, 0 if kept_anyway else 1
        if not self.lora:
            copies = len(kinds) if width < self.weight_bytes and not kept_anyway else shared
            return copies * size * width
        adapted = sum(map(self._adapts, kinds))
        if not adapted:
            return 0
        dropped = adapted * size * self.dropout_bytes if self.lora.dropout else 0
        copied = self.lora.dropout or (self.lora.dora and width < 4 and not (self.quantized and width == self.adapter_bytes))
        copies = adapted if copied else shared
        return copies * size * width + dropped + adapted * self.lora.rank * width

    def head(self, positions: int, fused: bool) -> int:
        """What the output head and the loss hold for ``positions`` scored tokens.

        TRL's fused head computes logits in tiles, twice, and never holds them whole; its gradient is float32. Otherwise:
        logits, their float32 copy, the log-probabilities and the gradients of both.
        """
        shape, width = self.shape, self.compute_bytes
        hidden = positions * shape.hidden * (4 + (width if self.lora else 4))
        if fused:
            return hidden + min(positions, TILE_TOKENS) * TILE_WORDS * width
        wide = 0 if width == 4 else 2 * width
        return hidden + positions * shape.vocabulary * (12 + wide)

    def generation(self, sequences: int, prompt: int, completion: int, truncated: bool) -> int:
        """Key-value cache, the logits of one step, and the prompts' widest activations, by transformers' ``generate``.

        Args:
            sequences: Completed at once.
            prompt: Tokens of each, padding included.
            completion: Most new tokens of each.
            truncated: Whether the nucleus is cut (top-p below 1), which sorts the logits.
        """
        shape, width = self.shape, self.compute_bytes
        # Rotary embeddings are as wide as the residual stream: float32 where the weights are.
        cached = 2 * shape.key_value_heads * shape.head_dim * (width if self.lora else 4)
        cache = sequences * (prompt + completion) * shape.layers * cached
        logits = sequences * shape.vocabulary * (12 + (20 if truncated else 0))
        return cache + max(logits, sequences * prompt * 3 * shape.intermediate * width)


class Estimate(NamedTuple):
    """Memory of one process, in bytes."""

    parts: dict[str, int]
    """What each part takes at its own largest."""
    phases: dict[str, int]
    """What is held together in each phase of a step; parts of other phases are free then."""

    @property
    def peak(self) -> int:
        """The most that is held at a time."""
        return max(self.phases.values())

    @property
    def largest(self) -> str:
        """The part that takes most."""
        return max(self.parts, key=lambda part: self.parts[part])


def measure(model: Model) -> Shape | None:
    """The architecture of a model, without its weights; None for one that is no transformer with attention heads. Raises
    `Unreachable` where its ``config.json`` cannot be fetched, and its shape is not kept here, and `UserError` where it can be
    fetched, and not be read.
    """
    from medrl.models.base import Pretrained

    model = model.origin
    if isinstance(model, Pretrained) and model.embedded:
        return stored_shape(model.path)
    on_hub = isinstance(model, Pretrained) and not model.path.exists()
    return _shape_on_hub(model) if on_hub else shape(model.skeleton())


@cache
def _shape_on_hub(model: Pretrained) -> Shape | None:
    """The same of a model on the hub, asked once; where the hub cannot be, of the shapes that are kept here."""
    try:
        return shape(model.skeleton())
    except Unreachable:
        if (known := known_skeleton(model.weights)) is None:
            raise
        return shape(known)


def training(hardware: Hardware, model: Model, measured: Shape) -> Training:
    """How a run on this hardware holds and trains a model of this architecture."""
    from medrl.models.base import weight_precision

    stored, compute = (4 if precision == "fp32" else 2 for precision in (weight_precision(model, hardware), hardware.precision))
    dropout = 1 if hardware.device == "cuda" else 4
    return Training(measured, model.lora, model.quantization is not None, stored, compute, dropout)


def estimate(run: Run, algo: TrainedAlgo, measured: Shape, known: int) -> Estimate:
    """What a process of a run takes; ``known`` tokens of a sequence as `TrainedAlgo.max_prompt_tokens` counts them."""
    held, hardware, work = training(run.hardware, run.model, measured), run.hardware, algo.footprint(run, known)
    others = [training(hardware, model, found).weights() for model in algo.others if (found := measure(model))]
    micro, accumulation = hardware.split(algo.batch_size)
    at_once = micro * work.sequences
    # DistributedDataParallel collects gradients in buckets beside them (torch.nn.parallel, gradient_as_bucket_view=False).
    buckets = 2 if run.hardware.processes > 1 and run.hardware.sharding == "none" else 1
    whole = {
        "weights": held.weights(),
        "adapter": held.adapter(),
        "gradients": held.trained_bytes * buckets * work.policies,
        "optimizer": held.optimizer(algo.optimizer) * work.policies,
        "copies": held.weights() * (work.frozen + work.policies - 1) + sum(others),
    }
    sharded = SHARDED[hardware.sharding]
    parts = {part: ceil(size / hardware.processes) if part in sharded else size for part, size in whole.items()}
    if "weights" in sharded:  # a layer is gathered whole, the next one meanwhile
        parts["weights"] += min(whole["weights"], 2 * ceil(whole["weights"] / measured.layers))
    layout = at_once, work.tokens, hardware.gradient_checkpointing is True
    parts |= {
        "activations": held.activations(*layout),
        "logits": held.head(at_once * work.scored, work.fused),
        "key-value cache": _generation(run, algo, held, work),
        "vllm": _vllm(run, work),
        "update": held.update(algo.optimizer) if hardware.device == "cuda" else 0,
    }
    phases = _phases(parts, held.kept(*layout), accumulation, hardware.sleeps)
    return Estimate({part: size for part, size in parts.items() if size}, phases)


def _phases(parts: dict[str, int], kept: int, accumulation: int, vllm_sleeps: bool) -> dict[str, int]:
    """What is held together in each phase of a step; ``kept`` is what the layers have left when the head is computed."""
    always = sum(parts[part] for part in ("weights", "adapter", "optimizer", "copies"))
    learning = always + (0 if vllm_sleeps else parts["vllm"])
    transient = max(kept + parts["logits"], parts["activations"])  # the head has gone when the layers go backward
    # In the first micro-batch activations are freed as gradients are made; later ones find the gradients there already.
    backward = transient + parts["gradients"] if accumulation > 1 else max(transient, parts["gradients"])
    return {
        "training": learning + backward,
        "generation": always + parts["vllm"] + parts["key-value cache"],
        "update": learning + parts["gradients"] + parts["update"],
    }


def _generation(run: Run, algo: TrainedAlgo, held: Training, work: Footprint) -> int:
    """Completions sampled between optimizer steps by transformers, those of a whole step at once."""
    if not work.completion or run.hardware.rollout == "vllm":
        return 0
    truncated = getattr(algo, "top_p", 1.0) < 1
    return held.generation(
        ceil(algo.batch_size / run.hardware.processes), work.tokens - work.completion, work.completion, truncated
    )


def _vllm(run: Run, work: Footprint) -> int:
    """The share of the GPU that vLLM takes for its own weights and cache, where the GPU's size is known."""
    share = run.hardware.vllm_memory_share
    if not work.completion or run.hardware.rollout != "vllm" or not run.hardware.memory_gib or isinstance(share, str):
        return 0
    return int(share * run.hardware.memory_gib * GIB)


def in_gib(size: float) -> str:
    """A size in words."""
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
