"""Dynamic sampling (DAPO, Yu et al. 2025, arXiv 2503.14476, section 3.2) on top of TRL's GRPOTrainer, which has none.

A group whose completions all earn the same has no advantages and so no gradient. Such dead groups are replaced, prompt by
prompt, by freshly drawn ones, until none is left or the rounds are over. The paper draws on from the data in order; here the
fresh prompts of a step are a shuffle of the rows that are not in its batch, seeded by the run's seed and the step, so that a
run that was killed draws the same again.

What the log says: rewards, lengths and answers are those of the batch as it was first drawn, an even sample of the prompts
that compares with a run without resampling. ``frac_reward_zero_std`` and ``train/completions/`` show what was trained on.
``num_tokens`` counts all that was generated.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

SAME = 1e-6
"""Rewards that differ by no more than this are equal: sums of floats in another order."""

LAYOUT: Mapping[str, Literal["left", "right", "rows", "all"]] = {
    # How TRL lays out what its trainer makes of a batch: tensors (completions, tokens) padded on one side, one value a
    # completion, or one value of the whole batch. Anything else it may come to make stops the run (`merge`).
    "prompt_ids": "left",
    "prompt_mask": "left",
    "completion_ids": "right",
    "completion_mask": "right",
    "old_per_token_logps": "right",
    "ref_per_token_logps": "right",
    "sampling_per_token_logps": "right",
    "importance_sampling_ratio": "right",
    "advantages": "rows",
    "num_items_in_batch": "all",
}

FAR_BELOW = -1e4
"""Fills log probabilities of the reference model. The estimate of the divergence raises e to their difference before it is
masked, and where they were filled with 0 beside a very unlikely padding token, that would be infinite, and NaN once masked."""

Batch = dict[str, Any]
"""What TRL makes of the prompts of one process: tensors by the names of `LAYOUT`."""
Pairs = Sequence[tuple[int, int]]
"""``(dead group, the fresh group that replaces it)``."""


def trainer_class(base: type[Any], rounds: int) -> type[Any]:
    """A GRPOTrainer with up to so many rounds of replacing dead groups in each batch that it generates."""

    class DynamicSampling(base):
        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
            return filled(self, super()._generate_and_score_completions, inputs, rounds)

    return DynamicSampling


def filled(trainer: Any, generate: Callable[[list[dict[str, Any]]], Batch], inputs: list[dict[str, Any]], rounds: int) -> Batch:
    """The batch of ``inputs`` with its dead groups replaced, as far as so many further ``rounds`` of the trainer's own generation
    allow; groups stand together and whole. Every process comes to the same decisions, as all see the rewards of all: each round
    generates as many groups a process as the one that lacks most, so that all take part in every collective call.
    """
    processes, index, size = trainer.accelerator.num_processes, trainer.accelerator.process_index, trainer.num_generations
    each = len(inputs) // size
    batch = generate(inputs)
    metrics = {name: list(values) for name, values in trainer._metrics["train"].items()}
    noted = _noted(trainer, len(inputs) * processes)
    dead = dead_groups(noted, trainer.reward_weights.tolist(), size)
    fresh_rows = _fresh_rows(trainer, inputs) if dead else iter(())
    replaced, generated = 0, len(inputs) * processes
    for _ in range(rounds):
        lacking = max(sum(group // each == process for group in dead) for process in range(processes))
        rows = list(islice(fresh_rows, lacking * processes))
        if not rows or len(rows) < lacking * processes:
            break
        mine = rows[index * lacking : (index + 1) * lacking]
        drawn = generate([trainer.train_dataset[row] for row in mine for _ in range(size)])
        drawn_noted = _noted(trainer, lacking * processes * size)
        still_dead = dead_groups(drawn_noted, trainer.reward_weights.tolist(), size)
        pairs = replacements(dead, still_dead, each, lacking, processes)
        batch = merge(
            batch,
            drawn,
            [(old - index * each, new - index * lacking) for old, new in pairs if old // each == index],
            size,
            trainer.processing_class.pad_token_id,
        )
        noted = {name: _spliced(values, drawn_noted[name], pairs, size) for name, values in noted.items()}
        dead -= {old for old, _ in pairs}
        replaced, generated = replaced + len(pairs), generated + lacking * processes * size
    if generated > len(inputs) * processes:
        for name, column in _columns(trainer).items():
            if name in noted:
                column.clear()
                column.extend(noted[name])
        batch["num_items_in_batch"] = trainer.accelerator.gather(batch["completion_mask"].sum()).sum()
    trainer._metrics["train"].update(
        metrics
        | {
            "num_tokens": [trainer.state.num_input_tokens_seen],
            "frac_reward_zero_std": [len(dead) / (each * processes)],
            "resampled_groups": [replaced],
            "completions/generated": [generated],
        }
    )
    return batch


def dead_groups(noted: Mapping[tuple[str, ...], Sequence[Any]], weights: Sequence[float], size: int) -> set[int]:
    """Positions of the groups of ``size`` in which all completions earn the same, or of which at most one is scored at all. The
    columns ``("rewards", name)`` of the batch hold what each reward says of each completion, NaN where it abstains; ``weights``
    what a full score of each pays, in the same order.
    """
    import torch

    rewards = torch.tensor([list(values) for (kind, *_), values in noted.items() if kind == "rewards"], dtype=torch.float64)
    totals = (rewards * torch.tensor(weights, dtype=torch.float64)[:, None]).nansum(0)
    scored = ~rewards.isnan().all(0).view(-1, size)
    groups = totals.view(-1, size)
    highest = groups.masked_fill(~scored, -torch.inf).amax(1)
    lowest = groups.masked_fill(~scored, torch.inf).amin(1)
    return set((highest - lowest <= SAME).nonzero().flatten().tolist())


def replacements(dead: set[int], still_dead: set[int], each: int, drawn_each: int, processes: int) -> list[tuple[int, int]]:
    """Which fresh group replaces which dead one: in each process its own, in order, as far as they reach. Positions are those
    among the groups of all processes, ``each`` a process, and among the fresh ones, ``drawn_each`` a process.
    """
    pairs: list[tuple[int, int]] = []
    for process in range(processes):
        lacking = [group for group in range(process * each, (process + 1) * each) if group in dead]
        fresh = [group for group in range(process * drawn_each, (process + 1) * drawn_each) if group not in still_dead]
        pairs += zip(lacking, fresh, strict=False)
    return pairs


def merge(batch: Batch, drawn: Batch, pairs: Pairs, size: int, pad_token_id: int) -> Batch:
    """``batch`` with the rows of dead groups replaced by those of ``drawn``, both padded to one width.

    Args:
        batch: Of one process, its groups of ``size`` rows together.
        drawn: Of the same process, with the same keys.
        pairs: Positions of groups within the two.
        size: Completions of a group.
        pad_token_id: Fills token ids; the reference's log probabilities are filled with `FAR_BELOW`, all else with 0.

    Raises:
        RuntimeError: TRL makes something of a batch that `LAYOUT` does not know, or not the same of both.
    """
    if unknown := (batch.keys() ^ drawn.keys()) | (batch.keys() - LAYOUT.keys()):
        raise RuntimeError(
            f"This version of TRL makes {', '.join(sorted(unknown))} of a batch, which medrl's dynamic sampling does not know; "
            "install the versions of constraints.txt, or set algo.dynamic_sampling_rounds=0."
        )
    merged: Batch = {}
    for name, values in batch.items():
        if LAYOUT[name] == "all":  # of the whole batch; found again when it is full
            merged[name] = values
            continue
        ours, theirs = values, drawn[name]
        if LAYOUT[name] != "rows":
            fill = pad_token_id if name.endswith("_ids") else FAR_BELOW if name == "ref_per_token_logps" else 0
            width = max(ours.shape[1], theirs.shape[1])
            ours, theirs = (_widened(tensor, width, LAYOUT[name] == "left", fill) for tensor in (ours, theirs))
        merged[name] = ours.clone()
        for old, new in pairs:
            merged[name][old * size : (old + 1) * size] = theirs[new * size : (new + 1) * size]
    return merged


def _widened(tensor: torch.Tensor, width: int, left: bool, fill: float) -> torch.Tensor:
    """A tensor (rows, tokens) filled up to ``width`` tokens on one side."""
    from torch.nn.functional import pad

    missing = width - tensor.shape[1]
    return pad(tensor, (missing, 0) if left else (0, missing), value=fill)


def _fresh_rows(trainer: Any, inputs: list[dict[str, Any]]) -> Iterator[int]:
    """Rows that are in no process's batch, in the order in which this step draws them."""
    import torch

    mine = torch.tensor([example["row"] for example in inputs], device=trainer.accelerator.device)
    taken = set(trainer.accelerator.gather(mine).tolist())
    rows = [row for row in range(len(trainer.train_dataset)) if row not in taken]
    random.Random(f"dynamic sampling:{trainer.args.seed}:{trainer.state.global_step}").shuffle(rows)
    return iter(rows)


def _columns(trainer: Any) -> dict[tuple[str, ...], deque[Any]]:
    """What TRL notes of completions, for ``train/completions/``, by name: those of rewards and extra columns are nested."""
    columns: dict[tuple[str, ...], deque[Any]] = {}
    for name, values in trainer._logs.items():
        columns |= {(name, key): column for key, column in values.items()} if isinstance(values, dict) else {(name,): values}
    return columns


def _noted(trainer: Any, count: int) -> dict[tuple[str, ...], list[Any]]:
    """What TRL has noted of the last ``count`` completions of all processes: a list a column."""
    return {name: list(column)[-count:] for name, column in _columns(trainer).items() if len(column) >= count}


def _spliced(values: Sequence[Any], drawn: Sequence[Any], pairs: Pairs, size: int) -> list[Any]:
    """A column with the entries of replaced groups exchanged."""
    spliced = list(values)
    for old, new in pairs:
        spliced[old * size : (old + 1) * size] = drawn[new * size : (new + 1) * size]
    return spliced
