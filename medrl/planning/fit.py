"""What of ``hardware`` the model decides together with the card: micro-batch, checkpointing, vLLM's share of the memory.

The estimate of `medrl.planning.memory` decides, for the run's own model, adapter, algorithm and longest sequences, before weights
load. None of it is part of a run's id. A value that the user gives is kept, and the others are fitted to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, lcm
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from medrl.algos import base
from medrl.config import build, frozen
from medrl.models.vllm_engine import COMPUTING
from medrl.planning.memory import GIB, Estimate, Shape, estimate, in_gib, measure
from medrl.training import cards
from medrl.training.hardware import AUTO, FITTED

if TYPE_CHECKING:
    from medrl.algos.base import TrainedAlgo
    from medrl.config.schema import Run

FULL = 0.9
"""Share of the memory that an estimate may fill. The rest is for what it leaves out, the CUDA context and fragmentation."""
OF_A_CPU = 0.6
"""The same of the memory of a CPU, where the process has its libraries, too, and an allocator that gives little back: SFT of a
model of 135M took 6.5 GiB of 3.6 estimated."""
BUSY_TOKENS = 1024
"""Tokens of a micro-batch from which a card is taken to be busy with matrix products, so that computing activations twice costs
more than a larger micro-batch gains. Not measured card by card."""


class Fitted(NamedTuple):
    """A run whose hardware is decided."""

    run: Run
    shape: Shape | None
    """The architecture, where it had to be looked at."""
    said: list[str]
    """What was decided and why, a line each."""


def fitted(run: Run) -> Fitted:
    """Decide what is ``auto`` still. Raises `UserError` where the model's ``config.json`` cannot be read."""
    if not isinstance(run.algo, base.TrainedAlgo) or not any(getattr(run.hardware, key) == AUTO for key in FITTED):
        return Fitted(run, None, [])
    measured = measure(run.model)
    if measured is None or run.hardware.memory_gib is None:
        why = "hardware.memory_gib is null" if measured else "the memory of this architecture is not known"
        cautious = _decided(run, run.algo.least_micro_batch, True, 0.3)
        return Fitted(cautious, measured, [f"{_words(cautious, run.algo)}, to be careful: {why}"])
    found, faster = _fastest(run, run.algo, measured)
    return Fitted(found, measured, list(_reasons(found, faster, run.algo, measured)))


def _fastest(run: Run, algo: TrainedAlgo, measured: Shape) -> tuple[Run, Run | None]:
    """The fastest split that fits, and the next faster one, which does not; where none fits, the smallest."""
    before, tight = None, None
    for share in _shares(run, algo, measured):
        for checkpointing, micro in _splits(run, algo):
            tight = _decided(run, micro, checkpointing, share)
            if fits(tight, _estimated(tight, algo, measured)):
                return tight, before
            before = tight
        before = None
    assert tight is not None
    return tight, None


def fits(run: Run, found: Estimate) -> bool:
    """Whether an estimate leaves enough of the GPU's memory free."""
    return run.hardware.memory_gib is None or found.peak <= FULL * run.hardware.memory_gib * GIB


def _estimated(run: Run, algo: TrainedAlgo, measured: Shape) -> Estimate:
    return estimate(run, algo, measured, algo.max_prompt_tokens(run))


def _decided(run: Run, micro: int, checkpointing: bool, share: float) -> Run:
    """The run with these values in the place of ``auto``."""
    values: dict[str, Any] = {"micro_batch_size": micro, "gradient_checkpointing": checkpointing, "vllm_memory_share": share}
    undecided = {key: value for key, value in values.items() if getattr(run.hardware, key) == AUTO}
    return replace(run, hardware=replace(run.hardware, **undecided))


def _splits(run: Run, algo: TrainedAlgo) -> Iterator[tuple[bool, int]]:
    """Checkpointing and micro-batch, the fastest first: a small micro-batch keeps no card busy, so larger ones with
    checkpointing come before it.
    """
    hardware, share = run.hardware, algo.batch_size // run.hardware.processes
    sizes = [size for size in range(share, 0, -1) if share % size == 0 and size >= min(algo.least_micro_batch, share)]
    if hardware.micro_batch_size != AUTO:
        sizes = [hardware.split(algo.batch_size)[0]]
    if hardware.gradient_checkpointing != AUTO:
        yield from ((hardware.gradient_checkpointing is True, size) for size in sizes)
        return
    work = algo.footprint(run, algo.max_prompt_tokens(run))
    busy = [size for size in sizes if size * work.sequences * work.tokens >= BUSY_TOKENS or size == sizes[0]]
    yield from ((False, size) for size in busy)
    yield from ((True, size) for size in sizes)


def _shares(run: Run, algo: TrainedAlgo, measured: Shape) -> Iterator[float]:
    """Shares of the memory for vLLM: its 16-bit weights with the cache of all completions of a round, then of half of them, and
    so on down to one, which is the least that vLLM starts with.
    """
    work, memory = algo.footprint(run, algo.max_prompt_tokens(run)), (run.hardware.memory_gib or 0) * GIB
    if run.hardware.rollout != "vllm" or not work.completion:
        yield 0.3  # which nobody reads
        return
    weights = 2 * sum(measured.parameters)
    a_sequence = work.tokens * measured.layers * 2 * measured.key_value_heads * measured.head_dim * 2
    sequences = ceil(algo.batch_size * getattr(algo, "num_mini_batches", 1) / run.hardware.processes)
    while True:
        yield min(0.95, ceil(100 * (weights + COMPUTING + sequences * a_sequence) / memory) / 100)
        if sequences == 1:
            return
        sequences = ceil(sequences / 2)


# --- In words --------------------------------------------------------------------------------------------------------


def _reasons(found: Run, faster: Run | None, algo: TrainedAlgo, measured: Shape) -> Iterator[str]:
    least, work = _estimated(found, algo, measured), algo.footprint(found, algo.max_prompt_tokens(found))
    micro, _ = found.hardware.split(algo.batch_size)
    memory = found.hardware.memory_gib or 0
    kept = f"{micro * work.sequences} x {work.tokens:,} tokens keep {in_gib(least.parts['activations'])} of activations"
    said = f"{_words(found, algo)}: {kept}, {in_gib(least.peak)} of {memory:g} GiB in all"
    if faster:
        said += f"; {_words(faster, algo)} would take {in_gib(_estimated(faster, algo, measured).peak)}"
    yield said if fits(found, least) else f"{said}; there is no smaller one"
    if held := least.parts.get("vllm"):
        weights = 2 * sum(measured.parameters)
        yield f"vLLM {found.hardware.vllm_memory_share:.0%}: {in_gib(held)}, of which {in_gib(weights)} are its 16-bit weights"


def _words(run: Run, algo: TrainedAlgo) -> str:
    return (
        f"micro-batch {run.hardware.split(algo.batch_size)[0]} {('without', 'with')[bool(run.hardware.gradient_checkpointing)]} "
        "checkpointing"
    )


def of_card(run: Run) -> str | None:
    """What a card is, and what follows from that alone; None where it is not known."""
    hardware = run.hardware
    if not (card := hardware.known_card):
        return None
    modern = card.capability >= cards.BF16_SINCE
    why = {
        "fp32": "asked for; slower than 16 bits",
        "fp16": "asked for" if modern else f"which is fast there; bf16 is from {cards.BF16_SINCE} on",
        "bf16": "which is fast there" if modern else f"asked for; it is slow below {cards.BF16_SINCE}, where fp16 is fast",
    }
    said = f"{card.name}, {hardware.memory_gib or card.memory_gib:g} GiB"
    said += f" for each of {hardware.runs_per_gpu} runs" if hardware.runs_per_gpu > 1 else ""
    said += f", compute capability {card.capability}: "
    said += f"{hardware.precision}, {why[hardware.precision]}"
    if run.algo.uses_rollout_engine:
        said += f"; rollouts by {hardware.rollout}"
        said += f" (vLLM begins at {cards.VLLM_SINCE})" if card.capability < cards.VLLM_SINCE else ""
    if card.capability < cards.CUDA_13_SINCE:
        said += "; CUDA 13 has no compiler for it, so take a PyTorch that was built with CUDA 12"
    return said


# --- A card that is too small ----------------------------------------------------------------------------------------


def ways_out(run: Run, measured: Shape) -> str:
    """What makes a run fit that does not, in the words of a command line, tried by the estimate; the least far-reaching first.
    The run is as it was asked for, before anything was `fitted`.
    """
    asked = {key: AUTO for key in FITTED if getattr(run.hardware, key) != AUTO}
    single = [(_words_of("hardware", asked), _changed(run, "hardware", asked))] if asked else []
    changed = _changed(run, "hardware", dict.fromkeys(FITTED, AUTO))
    every = changed
    for section, values in _changes(changed):
        words = "model/lora=all_linear" if "lora" in values else _words_of(section, values)
        single.append((words, _changed(changed, section, values)))
        every = _changed(every, section, values)
    if fitting := [f"{words} makes it {size}" for words, each in single if (size := _size_where_it_fits(each, measured))]:
        return " or ".join(fitting[:2])
    if size := _size_where_it_fits(every, measured):
        return f"{' '.join(words for words, _ in single)} together make it {size}"
    for key, card in sorted(cards.known().items(), key=lambda item: item[1].memory_gib):
        values = {"card": key, "memory_gib": card.memory_gib}
        if card.memory_gib > (run.hardware.memory_gib or 0) and _size_where_it_fits(
            _changed(every, "hardware", values), measured
        ):
            return f"no setting makes it fit; take a smaller model or a card of {card.memory_gib} GiB (hardware={key})"
    return "no setting and no single card makes it fit; take a smaller model"


def smaller_split(run: Run, measured: Shape) -> str:
    """The micro-batch, and the checkpointing, with which a run fits on a CPU, in the words of a command line; empty where
    there is none.
    """
    assert isinstance(run.algo, base.TrainedAlgo)
    room = (run.hardware.room_gib or 0) * OF_A_CPU / FULL
    undecided: dict[str, Any] = {"micro_batch_size": AUTO, "memory_gib": room}
    if not run.hardware.gradient_checkpointing:
        undecided["gradient_checkpointing"] = AUTO
    found, _ = _fastest(_changed(run, "hardware", undecided), run.algo, measured)
    held = _estimated(found, run.algo, measured)
    values: dict[str, Any] = {"micro_batch_size": found.hardware.split(run.algo.batch_size)[0]}
    if found.hardware.gradient_checkpointing and not run.hardware.gradient_checkpointing:
        values["gradient_checkpointing"] = "true"
    return f"{_words_of('hardware', values)} makes it {in_gib(held.peak)}" if fits(found, held) else ""


def _changes(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sections and the values in them that take less memory."""
    algo, quantizes = run.algo, run.hardware.sharding not in ("fsdp", "zero3") and run.model.quantization is None
    if not isinstance(algo, base.TrainedAlgo):
        return
    if algo.uses_rollout_engine and run.hardware.rollout == "vllm":
        yield "hardware", {"rollout": "transformers"}
    if algo.optimizer == "adamw":
        yield "algo", {"optimizer": "adamw_8bit"}
    if run.model.lora is None:
        option = yaml.safe_load((frozen.root("conf") / "model" / "lora" / "all_linear.yaml").read_text(encoding="utf-8"))
        yield "model", {"lora": build.build(option)}
    if quantizes:
        yield "model", {"quantization": "nf4"}
    if algo.batch_size > (least := lcm(run.hardware.processes * algo.least_micro_batch, algo.group)):
        yield "algo", {"batch_size": least}


def _changed(run: Run, section: str, values: dict[str, Any]) -> Run:
    return replace(run, **{section: replace(getattr(run, section), **values)})


def _words_of(section: str, values: dict[str, Any]) -> str:
    return " ".join(f"{section}.{key}={value}" for key, value in values.items())


def _size_where_it_fits(run: Run, measured: Shape) -> str:
    """The peak of the estimate, or nothing where that is too much; 4 bits without an adapter do not train."""
    if not isinstance(run.algo, base.TrainedAlgo) or (run.model.quantization and run.model.lora is None):
        return ""
    fastest, _ = _fastest(run, run.algo, measured)
    held = _estimated(fastest, run.algo, measured)
    return in_gib(held.peak) if fits(fastest, held) else ""
