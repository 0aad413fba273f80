"""Micro-batches of so many tokens instead of so many rows: fewer of them, in the memory that the padded ones would take.

TRL cuts the rows of an optimizer step into micro-batches of equally many rows, each padded to the longest of all. Without padding
and repeated prompts more rows fit into the same tokens. A gradient is a sum over the micro-batches of a step, so that it stays
the same however the rows are cut, as long as each part is weighed by what the loss divides by:

- a mean over rows (grpo, sapo, luspo, dr_grpo, RLOO): by the part's share of the rows (`SHARE`);
- a sum over all tokens of the step (dapo, cispo, vespo): not at all;
- bnpo divides by the tokens of a micro-batch, so that it depends on the cut: its micro-batches stay TRL's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from medrl.training.rollout import shared_prompts

if TYPE_CHECKING:
    import torch

SHARE = "medrl_share"
"""Name in a micro-batch of how many rows it has, over how many TRL's has; 0 for one that is empty."""
OF_ALL_TOKENS = ("dapo", "cispo", "vespo")
"""Losses that TRL divides by the tokens of the whole step."""
OF_ITS_TOKENS = ("bnpo",)
"""Losses that TRL divides by the tokens of a micro-batch."""

Batch = dict[str, Any]


def cut(batch: Batch, parts: int, gather: Callable[[torch.Tensor], torch.Tensor] = lambda sizes: sizes) -> list[Batch]:
    """Cut the rows of an optimizer step into as few micro-batches as hold them.

    None has more tokens than TRL's, which has ``rows / parts`` rows, all as wide as the widest; so there are at most ``parts``.

    Args:
        batch: What TRL makes of prompts: tensors of a row each, groups whole and together; numbers without rows are everyone's.
        parts: Micro-batches of the step in TRL, which calls for so many.
        gather: Puts a tensor of each process that trains together one behind the other. All cut after the same rows, because TRL
            gathers numbers of each row of a micro-batch: it would wait for a micro-batch that another process does not have.

    Returns:
        ``parts`` micro-batches, the empty ones first: under DistributedDataParallel the last one synchronizes the gradients.
    """
    rows = len(batch["completion_ids"])
    most = rows // parts * (batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1])
    ends = [*_ends(gather(_sizes(batch, most)).tolist()), rows]
    filled = []
    for start, end in pairwise([0, *ends]):
        part = {name: value[start:end] if getattr(value, "ndim", 0) else value for name, value in batch.items()}
        filled.append(part | {SHARE: (end - start) * parts / rows})
    return [{SHARE: 0.0}] * (parts - len(filled)) + filled


def _sizes(batch: Batch, most: int) -> torch.Tensor:
    """Tokens that each row takes as the first of a micro-batch, and behind the row before it; at the end, twice, the most that a
    micro-batch may have: (1, rows + 1, 2).
    """
    import torch

    prompts, completions = batch["prompt_mask"].sum(1), batch["completion_mask"].sum(1)
    first = prompts + completions
    behind = first.where(shared_prompts.begin_prompts(batch["prompt_ids"], batch["prompt_mask"]), 1 + completions)
    limit = first.new_full((1, 2), most)
    return torch.cat([torch.stack([first, behind], 1), limit])[None]


def _ends(sizes: list[list[list[int]]]) -> list[int]:
    """Where a micro-batch of any process is full and the next one begins: rows, without the first and the end. ``sizes`` are
    `_sizes` of all processes.
    """
    most, ends, tokens = [each[-1][0] for each in sizes], [], [0] * len(sizes)
    for row in range(len(sizes[0]) - 1):
        tokens = [so_far + each[row][1] for so_far, each in zip(tokens, sizes, strict=True)]
        if any(taken > limit for taken, limit in zip(tokens, most, strict=True)):
            ends.append(row)
            tokens = [each[row][0] for each in sizes]
    return ends


def nothing(model: torch.nn.Module) -> torch.Tensor:
    """The loss of an empty micro-batch: 0, with a gradient of 0 for each trained weight."""
    loss: torch.Tensor = sum(each.sum() for each in model.parameters() if each.requires_grad) * 0.0
    return loss
