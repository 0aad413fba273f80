"""What a run computes on: precision, how the global batch is split, which engine generates. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Gt

from medrl.errors import Problem, UserError

if TYPE_CHECKING:
    from medrl.config import Run

PRESETS = {
    # What NVIDIA's driver calls the device -> the option of the group `hardware`.
    "T4": "t4",
    "A100": "a100",
    "H100": "h100",
    "H200": "h100",
}


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """How a run is computed. No part of the run's id: it may change the speed of a run, never its question."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "fp16", "bf16"]
    """What the forward and backward passes compute in."""
    gpus: Annotated[int, Gt(0)]
    """Processes of a run, one a GPU (one process in all on a CPU)."""
    micro_batch_size: Annotated[int, Gt(0)]
    """Most sequences a device computes at a time; the largest divisor of the device's share of a batch is used."""
    gradient_checkpointing: bool
    """Recompute activations in the backward pass: less memory, about a third more time."""
    rollout: Literal["transformers", "vllm"]
    """What generates inside training and in evaluation."""
    vllm_memory_share: Annotated[float, Gt(0)]
    """Share of the GPU's memory that a colocated vLLM takes."""

    def problems(self, run: Run) -> Iterator[Problem]:
        """A GPU preset needs a GPU; a quantised model needs one too."""
        found = detected_gpus()
        if self.device == "cuda" and not found:
            yield Problem("", "asks for a GPU, and NVIDIA's driver reports none here; write hardware=cpu")
        elif self.device == "cuda" and self.gpus > len(found):
            yield Problem("gpus", f"is {self.gpus}, and this machine has {len(found)}")
        if self.gpus > 1:
            yield Problem("gpus", f"is {self.gpus}; this version runs one process, write hardware.gpus=1")
        if self.device == "cpu" and self.rollout == "vllm":
            yield Problem("rollout", "vllm needs a GPU; write hardware.rollout=transformers")
        if self.device == "cpu" and run.model.quantisation:
            yield Problem("", f"model.quantisation={run.model.quantisation} needs a GPU; write model.quantisation=null")

    def split(self, batch_size: int) -> tuple[int, int]:
        """``(micro_batch_size, accumulation_steps)`` that make up a global batch of ``batch_size`` sequences."""
        share = batch_size // self.gpus
        micro = max(size for size in range(1, min(share, self.micro_batch_size) + 1) if share % size == 0)
        return micro, share // micro


@cache
def detected_gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs this process may use, asked of the driver, so that torch need not be imported.

    Raises:
        UserError: ``CUDA_VISIBLE_DEVICES`` names a device that does not exist.
    """
    import os

    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    handles: list[Any] = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(names)
    chosen = [entry for entry in visible.split(",") if entry.strip() not in ("", "-1")]
    if all(entry.strip().isdigit() for entry in chosen):
        missing = [entry for entry in chosen if int(entry) >= len(names)]
        if missing:
            raise UserError(f"CUDA_VISIBLE_DEVICES={visible} names device {missing[0]}; there are {len(names)}.")
        return tuple(names[int(entry)] for entry in chosen)
    return tuple(names[:1]) * len(chosen)  # devices named by UUID: one machine holds one kind


def detected_preset() -> str:
    """Option of the group ``hardware`` that fits the first GPU here, or ``cpu`` without one."""
    gpus = detected_gpus()
    if not gpus:
        return "cpu"
    for word, preset in PRESETS.items():
        if word in gpus[0]:
            return preset
    raise UserError(f"No preset fits {gpus[0]!r}; name one of hardware={{{','.join(sorted(set(PRESETS.values())))}}}.")
