"""Micro-batches of so many tokens instead of so many rows: fewer of them, in the memory that the padded ones would take.

TRL cuts the rows of an optimizer step into micro-batches of equally many rows, each padded to the longest of all. Without padding
and repeated prompts more rows fit into the same tokens. A gradient is a sum over the micro-batches of a step, so that it stays
the same however the rows are cut, as long as each part is weighed by what the loss divides by:

- a mean over rows (grpo, sapo, luspo, dr_grpo, RLOO): by the part's share of the rows (`SHARE`);
- a sum over all tokens of the step (dapo, cispo, vespo): not at all;
- bnpo divides by the tokens of a micro-batch, so that it depends on the cut: its micro-batches stay TRL's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SHARE = "medrl_share"
"""Name in a micro-batch of how many rows it has, over how many TRL's has; 0 for one that is empty."""
OF_ALL_TOKENS = ("dapo", "cispo", "vespo")
"""Losses that TRL divides by the tokens of the whole step."""
OF_ITS_TOKENS = ("bnpo",)
"""Losses that TRL divides by the tokens of a micro-batch."""

Batch = dict[str, Any]


def cut(batch: Batch, parts: int) -> list[Batch]:
    """Cut the rows of an optimizer step into as few micro-batches as hold them.

    None has more tokens than TRL's, which has ``rows / parts`` rows, all as wide as the widest; so there are at most ``parts``.

    Args:
        batch: What TRL makes of prompts: tensors of a row each, groups whole and together; numbers without rows are everyone's.
        parts: Micro-batches of the step in TRL, which calls for so many.

    Returns:
        ``parts`` micro-batches, the empty ones first: under DistributedDataParallel the last one synchronizes the gradients.
    """
    rows = len(batch["completion_ids"])
    most = rows // parts * (batch["prompt_ids"].shape[1] + batch["completion_ids"].shape[1])
    ends = [*_ends(batch, most), rows]
    filled = []
    for start, end in pairwise([0, *ends]):
        part = {name: value[start:end] if getattr(value, "ndim", 0) else value for name, value in batch.items()}
        filled.append(part | {SHARE: (end - start) * parts / rows})
    return [{SHARE: 0.0}] * (parts - len(filled)) + filled


def _ends(batch: Batch, most: int) -> list[int]:
    """Where a micro-batch is full and the next one begins: rows, without the first and the end."""
    prompts = (batch["prompt_ids"] * batch["prompt_mask"]).tolist()
    lengths = zip(batch["prompt_mask"].sum(1).tolist(), batch["completion_mask"].sum(1).tolist(), strict=True)
    ends, tokens = [], 0
    for row, (prompt, completion) in enumerate(lengths):
        again = row > 0 and prompts[row] == prompts[row - 1]
        tokens += 1 + completion if again else prompt + completion
        if tokens > most:
            ends.append(row)
            tokens = prompt + completion
    return ends


def nothing(model: torch.nn.Module) -> torch.Tensor:
    """The loss of an empty micro-batch: 0, with a gradient of 0 for each trained weight."""
    loss: torch.Tensor = sum(each.sum() for each in model.parameters() if each.requires_grad) * 0.0
    return loss
