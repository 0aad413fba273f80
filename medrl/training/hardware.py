"""What a run computes on: precision, how the global batch is split, which engine generates. Imports no torch."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from medrl.config.bounds import Most
from medrl.config.identity import Identified
from medrl.errors import Problem, UserError
from medrl.training import cards
from medrl.training.cards import Card

AUTO = "auto"
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much memory a container may take, in its two versions."""
FITTED = ("micro_batch_size", "gradient_checkpointing", "vllm_memory_share")
"""What stays ``auto`` in a configuration, until the shape of the model is known: `medrl.planning.fit` decides."""


@dataclass(frozen=True, kw_only=True)
class Hardware(Identified):
    """How a run is computed. The precision, and what generates inside training, are part of the run's id; the rest changes
    the speed of a run and not its question.
    """

    kind: ClassVar[str] = "hardware"
    not_learned: ClassVar[frozenset[str]] = frozenset(
        {
            "device", "card", "gpus", "runs_per_gpu", "nodes", "node_rank", "rendezvous", "sharding", "micro_batch_size",
            "gradient_checkpointing", "shared_prompts", "vllm_memory_share", "vllm_sleep", "memory_gib",
        }
    )  # fmt: skip

    device: Literal["cpu", "cuda"]
    """What computes: processors, or NVIDIA GPUs."""
    card: str | None
    """Which card, by its name in medrl/training/cards.yaml: what ``auto`` follows, and how long a run may take; null for
    another, of which only the driver knows something."""
    precision: Literal["fp32", "fp16", "bf16"]
    """What the forward and backward passes compute in."""
    runs_per_gpu: Annotated[int, Gt(0), Most(64, "each run holds weights of its own")]
    """How many runs share a GPU: so many points of ``-m`` or of a sweep run at once on each, and ``auto`` plans
    each within its part of the memory. For models that leave most of a large card idle."""
    gpus: Annotated[int, Gt(0), Most(128, "no machine has more; add machines with hardware.nodes")]
    """Processes that train on this node, one a GPU; on a CPU, so many processes share it."""
    nodes: Annotated[int, Gt(0), Most(10**4, "no cluster trains one run on more")]
    """Machines that train together, each with ``gpus`` processes; all see the run folder."""
    node_rank: Annotated[int, Ge(0)]
    """Which of the machines this is. 0 evaluates and writes; each is given the same command but for this."""
    rendezvous: str | None
    """``HOST:PORT`` of node 0, where processes meet; null for a free port of this machine."""
    sharding: Literal["none", "fsdp", "zero2", "zero3"]
    """What the processes divide among themselves: nothing, weights, gradients and optimizer (PyTorch's FSDP2; DeepSpeed's
    ZeRO-3), or gradients and optimizer (ZeRO-2; Rajbhandari et al. 2020, arXiv 1910.02054)."""
    micro_batch_size: Annotated[int, Gt(0), Most(10**6, "a micro-batch is computed at once")] | Literal["auto"]
    """Most sequences a device computes at a time; the largest divisor of the device's share of a batch is used. ``auto`` is the
    largest that fits by the memory estimate (`medrl.planning.fit`)."""
    gradient_checkpointing: bool | Literal["auto"]
    """Recompute activations in the backward pass: less memory, about a third more time. ``auto`` is false where that fits."""
    shared_prompts: bool
    """GRPO and RLOO compute a prompt once for all its completions, without padding: the same losses and gradients, to rounding,
    from fewer tokens (`training.rollout.shared_prompts`)."""
    rollout: Literal["transformers", "vllm"]
    """What generates: in training, in evaluation, for preference pairs, in `medrl.predict` and `medrl.verify`. Single answers
    (`medrl.chat`), samples of the reward audit and ``eval.eval_steps`` are transformers' always."""
    vllm_memory_share: Annotated[float, Gt(0), Le(1)] | Literal["auto"]
    """Share of ``memory_gib`` that vLLM takes, beside training and outside it; outside it more, where that does not hold the
    weights. ``auto`` holds its weights and the cache of a round of completions, or less of the cache where training would not fit
    beside it; outside training 0.3."""
    vllm_sleep: bool | None
    """vLLM gives its memory back while the policy learns, and takes its weights anew each time it wakes; null: on a GPU of less
    than 40 GiB."""
    memory_gib: Annotated[float, Gt(0)] | None
    """What of a GPU's memory a process can use; null where the plan shall not compare its estimate with it. On a CPU null is what
    this machine has for each of the processes."""

    def problems(self) -> Iterator[Problem]:
        """What does not go together in this section."""
        if self.card is not None and self.card not in cards.known():
            yield Problem("card", f"{self.card} is none of {', '.join(cards.known())}; write null and hardware.memory_gib=N")
        if self.node_rank >= self.nodes:
            yield Problem("node_rank", f"is {self.node_rank}, and nodes={self.nodes} are numbered from 0")
        if self.nodes > 1 and not re.fullmatch(r"[^:\s]+:\d{1,5}", self.rendezvous or ""):
            yield Problem("rendezvous", f"is {self.rendezvous!r}; several nodes meet at node 0's HOST:PORT")
        if self.sharding != "none" and self.processes == 1:
            yield Problem("sharding", f"{self.sharding} divides among processes, and there is one; write hardware.gpus=N")
        if self.sharding != "none" and self.device == "cpu":
            yield Problem("sharding", f"{self.sharding} needs GPUs; write hardware.sharding=none")
        if self.sharding in ("zero2", "zero3") and not find_spec("deepspeed"):
            yield Problem("sharding", f"{self.sharding} is DeepSpeed's: pip install 'medrl[deepspeed]', or write fsdp")
        if self.device == "cpu" and self.runs_per_gpu > 1:
            yield Problem("runs_per_gpu", "shares a GPU; on processors write hydra.launcher.jobs=N, or workers=N of a sweep")
        if self.device == "cpu" and self.rollout == "vllm":
            yield Problem("rollout", "vllm needs a GPU; write hardware.rollout=transformers")
        if self.device == "cpu" and self.precision == "fp16":
            yield Problem(
                "precision", "fp16 needs a GPU, where gradients are scaled against its narrow range; write fp32 or bf16"
            )

    def missing(self) -> Iterator[Problem]:
        """GPUs that are asked for and not here."""
        found = detected_gpus()
        if not found:
            none = "asks for a GPU, and NVIDIA's driver reports none here"
            yield Problem("", f"{none}; write hardware=cpu, or dry_run=true for the plan alone")
        elif self.gpus > len(found):
            yield Problem("gpus", f"is {self.gpus}, and this machine has {len(found)}")

    @property
    def processes(self) -> int:
        """Processes that train together, over all nodes."""
        return self.gpus * self.nodes

    @property
    def known_card(self) -> Card | None:
        """What is known of the card."""
        return cards.known()[self.card] if self.card else None

    @property
    def room_gib(self) -> float | None:
        """What the plan compares its estimate with; None where that is not known."""
        if self.memory_gib is not None or self.device == "cuda":
            return self.memory_gib
        found = machine_memory()
        return found / 2**30 / self.gpus if found else None

    @property
    def sleeps(self) -> bool:
        """Whether vLLM gives its memory back while the policy learns."""
        small = self.memory_gib is not None and self.memory_gib * self.runs_per_gpu < MEMORY_FOR_BOTH
        return small if self.vllm_sleep is None else self.vllm_sleep

    def sharding_arguments(self) -> dict[str, Any]:
        """The same for transformers' trainers."""
        if self.sharding == "fsdp":
            # FSDP recomputes activations itself; the model's own checkpointing would gather the weights twice.
            checkpointing = {"gradient_checkpointing": False} if self.gradient_checkpointing else {}
            return {
                "fsdp": True,
                "fsdp_config": {"version": 2, "activation_checkpointing": self.gradient_checkpointing},
            } | checkpointing
        if self.sharding in ("zero2", "zero3"):
            return {"deepspeed": _deepspeed(int(self.sharding[-1]))}
        return {}

    def split(self, batch_size: int) -> tuple[int, int]:
        """``(micro_batch_size, accumulation_steps)`` that make up a global batch of ``batch_size`` sequences.

        Where `medrl.planning.fit` has not decided on ``auto`` yet, all are computed at once.
        """
        share = batch_size // self.processes
        most = share if self.micro_batch_size == AUTO else min(share, int(self.micro_batch_size))
        micro = max(size for size in range(1, most + 1) if share % size == 0)
        return micro, share // micro


def _deepspeed(stage: int) -> dict[str, Any]:
    """A DeepSpeed configuration; ``auto`` is filled in by transformers from the trainer's own options."""
    return {
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }


def machine_memory() -> int | None:
    """Bytes of memory of this machine, or of the container that the process runs in; None where the system does not tell."""
    found = []
    with suppress(AttributeError, OSError, ValueError):  # of which Windows has none
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # "max" where there is none
            found.append(int(limit.read_text()))
    return min(found, default=None)


@cache
def detected_gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs this process may use, asked of the driver, so that torch need not be imported. Raises `UserError`
    where ``CUDA_VISIBLE_DEVICES`` names a device that does not exist.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    handles: list[Any] = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    entries = _visible_devices()
    if entries is None:
        return tuple(names)
    if not all(map(str.isdigit, entries)):
        return tuple(names[:1]) * len(entries)  # devices named by UUID: one machine holds one kind
    if absent := [entry for entry in entries if int(entry) >= len(names)]:
        visible = os.environ["CUDA_VISIBLE_DEVICES"]
        raise UserError(f"CUDA_VISIBLE_DEVICES={visible} names device {absent[0]}; there are {len(names)}.")
    return tuple(names[int(entry)] for entry in entries)


def _visible_devices() -> list[str] | None:
    """The entries of ``CUDA_VISIBLE_DEVICES``; None where it is not set."""
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if inherited is None:
        return None
    return [entry.strip() for entry in inherited.split(",") if entry.strip() not in ("", "-1")]


def card_settings(card: str | None, device: str, runs: int = 1) -> dict[str, Any]:
    """What ``auto`` becomes for a card by its name in ``cards.yaml``, or for the first GPU here, shared by so many runs; nothing
    without one. With the device ``cuda`` one of which nothing is known is taken for a newer one. Raises `UserError` as
    `detected_gpus`.
    """
    if found := cards.known().get(card or ""):
        return {"card": card, **cards.settings(found.capability, _part(found.memory_gib, runs))}
    if not card and (names := detected_gpus()):
        capability, gib = _capability_and_memory()
        return {"card": cards.key_of(names[0], gib), **cards.settings(capability, _part(gib, runs))}
    return {"card": None, **cards.settings(cards.BF16_SINCE, None)} if device == "cuda" else {}


def _part(gib: int, runs: int) -> float:
    return gib if runs == 1 else int(10 * gib / runs) / 10


MEMORY_FOR_BOTH = 40
"""GiB of a GPU on which vLLM stays awake while the policy learns."""


def _capability_and_memory() -> tuple[float, int]:
    """Compute capability and whole GiB of memory of the first GPU that this process may use."""
    import pynvml

    first = (_visible_devices() or ["0"])[0]
    by_index = first.isdigit()
    handle: Any = pynvml.nvmlDeviceGetHandleByIndex(int(first)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(first)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return major + minor / 10, int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) // 2**30


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them: numbers, UUIDs or MIG devices."""
    entries = _visible_devices()
    return tuple(map(str, range(len(detected_gpus())))) if entries is None else tuple(entries)


def show(names: Sequence[str]) -> None:
    """Let this process, and all that it starts, see these of the visible GPUs and no others; none for a run on the CPU.

    transformers' Trainer wraps the model in nn.DataParallel wherever one process sees several GPUs. TRL refuses that, and where
    it does not, the batch is multiplied. Processes that train together see all GPUs of their run, not one each: accelerate, TRL,
    vLLM and DeepSpeed take LOCAL_RANK for the number of the device (docs/decisions/0013). There transformers uses no
    nn.DataParallel, because `training.distributed.join` has initialised torch.distributed. Processes that train together on a CPU
    see none: accelerate's barrier takes LOCAL_RANK for a GPU wherever one is visible. Raises `RuntimeError` where CUDA is in use
    already and would not notice.
    """
    visible = visible_gpus()
    if len(visible) <= len(names):
        return
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        raise RuntimeError(f"CUDA was initialised with {len(visible)} visible GPUs before the run claimed {len(names)}.")
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the driver's numbers; CUDA's own order is by speed
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
    detected_gpus.cache_clear()
