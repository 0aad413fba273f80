"""Log-probabilities of completions without padding, with the prompt of a group computed once.

The completions of a group have one prompt. TRL computes it with each of them, and pads all rows to the longest. Here the rows of
a micro-batch stand one behind the other in one row: the prompt once, then each of its completions, which sees the prompt and
itself alone. Positions are those of the row by itself, so that values and gradients are those of the padded rows, to rounding.

The last token of a prompt predicts the first token of every completion. A position has one label, so each completion begins
with a copy of that token.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.training import flex_attention
from medrl.training.flex_attention import BLOCK, SHARED

if TYPE_CHECKING:
    import torch

FILLING, UNSCORED = -1, -100


class Layout(NamedTuple):
    """A micro-batch in one row."""

    ids: torch.Tensor
    """Tokens, (1, tokens)."""
    positions: torch.Tensor
    """Position of each within its own text, (1, tokens)."""
    labels: torch.Tensor
    """The token that each one predicts, (1, tokens); `UNSCORED` where that is not asked."""
    group: torch.Tensor
    """Which prompt each belongs to, (tokens,); `FILLING` behind the last."""
    branch: torch.Tensor
    """Which completion each belongs to, (tokens,); `SHARED` in a prompt."""
    places: torch.Tensor
    """Where the log-probability of each completion's token stands, (rows, completion tokens); 0 where it has none."""
    scored: torch.Tensor
    """Whether it has one, (rows, completion tokens)."""


def laid_out(input_ids: torch.Tensor, attention_mask: torch.Tensor, keep: int) -> Layout:
    """Put rows one behind the other: (rows, tokens) of ids and mask, prompts padded on the left, completions on the right, rows
    of one prompt together; ``keep`` tokens are those of the completions, padding included.
    """
    import torch

    rows, split = len(input_ids), input_ids.shape[1] - keep
    last = split - 1  # where the last token of every prompt stands
    begins = begin_prompts(input_ids[:, :split], attention_mask[:, :split])
    real = attention_mask.bool()
    taken = real.clone()
    taken[:, :last] &= begins[:, None]
    followed = real.roll(-1, 1)  # by a token of the same completion
    followed[:, :last] = followed[:, -1] = False
    labels = input_ids.roll(-1, 1).where(followed, UNSCORED)
    branches = torch.arange(rows, device=input_ids.device)[:, None].repeat(1, split + keep)
    branches[:, :last] = SHARED
    groups = (begins.cumsum(0) - 1)[:, None].expand_as(branches)
    chosen = taken.flatten().nonzero()[:, 0]

    def row(values: torch.Tensor, filling: int) -> torch.Tensor:
        return torch.nn.functional.pad(values.flatten()[chosen], (0, -len(chosen) % BLOCK), value=filling)

    # Of a completion's n-th token, the log-probability stands n places behind the copy of the prompt's last token.
    before = taken.sum(1).cumsum(0) - taken[:, last:].sum(1)
    scored = real[:, split:]
    places = before[:, None] + scored.cumsum(1) - 1
    return Layout(
        row(input_ids, 0)[None],
        row(real.cumsum(1) - 1, 0)[None],
        row(labels, UNSCORED)[None],
        row(groups, FILLING),
        row(branches, SHARED),
        places.where(scored, 0),
        scored,
    )


def begin_prompts(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Which rows have another prompt than the row before, (rows,); the first one has. Takes (rows, tokens), padding included."""
    import torch

    begins = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    begins[1:] = ((ids * mask).diff(dim=0) != 0).any(1) | (mask.diff(dim=0) != 0).any(1)
    return begins


def log_probs(model: Any, layout: Layout) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability and entropy of each completion's token, (rows, completion tokens); 0 for padding. The model has been
    through `flex_attention.prepare` and has TRL's fused head; the entropy is None where that computes none: TRL's reference.
    """
    outputs = model(
        input_ids=layout.ids,
        position_ids=layout.positions,
        attention_mask=flex_attention.mask(layout.group, layout.branch),
        shift_labels=layout.labels,
        fused_lm_head=True,
    )

    def of_rows(flat: torch.Tensor) -> torch.Tensor:
        return flat[0][layout.places].where(layout.scored, 0.0)

    return of_rows(outputs.log_probs), None if outputs.entropy is None else of_rows(outputs.entropy)


def laid_out_together(input_ids: torch.Tensor, attention_mask: torch.Tensor, keep: int, most: int) -> list[slice]:
    """Which consecutive rows share a layout: ``most`` on a GPU; those of one prompt elsewhere.

    FlexAttention computes the blocks of one prompt and its completions alone. Without it every token is compared with every other
    of the layout, so that rows of different prompts are kept apart.
    """
    if flex_attention.fused(input_ids.device):
        return [slice(start, start + most) for start in range(0, len(input_ids), most)]
    starts = begin_prompts(input_ids[:, :-keep], attention_mask[:, :-keep]).nonzero()[:, 0].tolist()
    return [slice(start, end) for start, end in pairwise([*starts, len(input_ids)])]
