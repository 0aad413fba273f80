"""NVIDIA's cards by name: memory, what they compute in, how fast their data sheets say that they are. Imports no torch."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from medrl.files import packaged

BF16_SINCE = 8.0
"""Compute capability (Ampere) from which bf16 is fast."""
VLLM_SINCE = 7.5
"""Compute capability (Turing) from which vLLM runs, by its installation page."""
CUDA_13_SINCE = 7.5
"""Compute capability (Turing) from which CUDA 13 compiles: its release notes take Pascal and Volta out."""


class Card(NamedTuple):
    """One kind of card: a row of ``cards.yaml``."""

    name: str
    """As it stands in what NVIDIA's driver calls it."""
    memory_gib: int
    """Whole GiB that the driver reports."""
    capability: float
    """Compute capability."""
    gb_s: float
    """Memory bandwidth, in 10^9 bytes a second."""
    tflops: float
    """Dense matrix products in 16 bits, in 10^12 operations a second."""


@cache
def known() -> dict[str, Card]:
    """The cards of ``cards.yaml``, by the option of ``hardware``."""
    rows: dict[str, Any] = packaged(__file__, "cards.yaml")
    return {key: Card(**row) for key, row in rows.items()}


def key_of(driver_name: str, gib: int) -> str | None:
    """Which of the `known` cards the driver means; of several sizes the nearest; None for another card."""
    found = [key for key, card in known().items() if re.search(rf"\b{card.name}\b(?! (Ti|D|SUPER|Laptop|Mobile))", driver_name)]
    return min(found, key=lambda key: abs(known()[key].memory_gib - gib), default=None)


def settings(capability: float, gib: float | None) -> dict[str, Any]:
    """What a card alone decides of ``hardware``; the model's shape decides the rest (`medrl.planning.fit`)."""
    return {
        "device": "cuda",
        "precision": "bf16" if capability >= BF16_SINCE else "fp16",
        "shared_prompts": capability
        >= BF16_SINCE,  # measured on an H200 alone; what Triton compiles for older cards nobody has seen
        "rollout": "vllm" if capability >= VLLM_SINCE else "transformers",
        "memory_gib": gib,
    }
