"""Attention among texts that stand one behind the other in one row, where each token sees its own text alone.

PyTorch's FlexAttention computes the blocks of 128 by 128 tokens that are not empty. Without it every token is compared with every
other of the row, and what it must not see is thrown away: the cost grows with the square of the row, not with the texts in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "medrl_texts_apart"
"""Name under which transformers finds `_attention`. (It takes any name with "flex_attention" in it for its own.)"""
BLOCK = 128
"""A row is filled up to a multiple of this many tokens: the blocks of FlexAttention, and few lengths to compile for."""
SHARED = -1
"""The branch of tokens that every branch of their group sees."""


def fused(device: torch.device) -> bool:
    """Whether FlexAttention computes attention: its kernels for training are for GPUs."""
    return bool(device.type == "cuda")


def mask(groups: torch.Tensor, branches: torch.Tensor) -> Any:
    """Which tokens see one another: each those before it in its group that are `SHARED` or of its branch. Takes (tokens,) each.
    It is what FlexAttention takes on a GPU, and PyTorch's fused attention elsewhere, (1, 1, tokens, tokens).
    """
    import torch

    if fused(groups.device):
        return block_mask(groups, branches)
    place = torch.arange(len(groups), device=groups.device)
    return _sees(groups, branches)(None, None, place[:, None], place[None, :])[None, None]


def block_mask(groups: torch.Tensor, branches: torch.Tensor) -> Any:
    """The same as FlexAttention takes it: which blocks of tokens are computed."""
    from torch.nn.attention.flex_attention import create_block_mask

    tokens = len(groups)
    return create_block_mask(_sees(groups, branches), None, None, tokens, tokens, device=groups.device, BLOCK_SIZE=BLOCK)


def _sees(groups: torch.Tensor, branches: torch.Tensor) -> Callable[[Any, Any, Any, Any], Any]:
    """Whether a token attends to another, in the form that FlexAttention and `torch.Tensor` take alike: a function of batch,
    head, query and key that holds no more than tensors (FlexAttention counts a method's ``self`` as an argument).
    """

    def seen(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        own = (branches[key] == SHARED) | (branches[key] == branches[query])
        return (query >= key) & (groups[query] == groups[key]) & own

    return seen


def obstacle(model: Any) -> str | None:
    """Why a model cannot attend through such a mask; None where it can."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if not model._supports_attention_backend:
        return f"{type(model).__name__} computes attention in a way of its own"
    if layers != {"full_attention"} or windowed:
        return f"{type(model).__name__} has layers that do not see a whole text"
    if getattr(config, "output_router_logits", False):
        return f"{type(model).__name__} learns to spread tokens over experts, padding included"
    return None


def prepare(model: Any) -> None:
    """Let a model attend through `mask`, where it is handed one; with any other it computes what it did before."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def prepare_for_packing(model: Any) -> int | None:
    """Let a model attend so to rows that TRL has packed. All of a micro-batch stand in one row, which transformers' own mask
    compares with itself whole.

    Returns the multiple to which TRL shall fill such a row; None where nothing was done: where there is an `obstacle`, on
    processors, and on GPUs below compute capability 8.0, for which nobody has seen Triton compile it.
    """
    if not (fused(model.device) and _compiles(model.device)) or obstacle(model):
        return None

    def apart(_decoder: Any, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if "seq_idx" not in named:  # which TRL hands over where rows are packed, and only there
            return None
        return args, named | {"attention_mask": texts_mask(named["position_ids"][0])}

    prepare(model)
    model.get_decoder().register_forward_pre_hook(apart, with_kwargs=True)  # peft calls the model around it by ``forward``
    return BLOCK


def texts_mask(positions: torch.Tensor) -> Any:
    """`block_mask` of texts that share nothing, from the position of each token in its own, (tokens,), a multiple of `BLOCK`. It
    looks at no pairs of tokens, of which a large micro-batch has billions.
    """
    import torch
    from torch.nn.attention.flex_attention import BlockMask

    starts = torch.arange(len(positions), device=positions.device) - positions
    blocks = torch.arange(len(positions) // BLOCK, device=positions.device)
    first = starts[::BLOCK] // BLOCK  # from where the first token of a block sees, and so all: later texts begin later
    numbers = blocks - first + 1
    indices = (first[:, None] + blocks).clamp(max=len(blocks) - 1)

    def seen(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        return (query >= key) & (starts[query] == starts[key])

    return BlockMask.from_kv_blocks(numbers[None, None].int(), indices[None, None].int(), BLOCK_SIZE=BLOCK, mask_mod=seen)


def _compiles(device: torch.device) -> bool:
    import torch

    return bool(torch.cuda.get_device_capability(device) >= (8, 0))


def _attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    attended = _compiled()(query, key, value, block_mask=attention_mask, scale=options.get("scaling"), enable_gqa=True)
    return attended.transpose(1, 2).contiguous(), None


def _compiled() -> Any:
    """FlexAttention, compiled once for every length: otherwise each new one takes seconds (unsloth-zoo #868)."""
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    global _flex
    if _flex is None:
        _flex = torch.compile(flex_attention, dynamic=True)
    return _flex


_flex: Any = None
