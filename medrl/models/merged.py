"""The weights of a policy as a plain checkpoint holds them: adapters added to their base, 4 bits unpacked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def merged_weights(policy: Any, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights of the plain model, as ``save_pretrained`` of the merged model writes them; tied weights once.

    An adapter is added in float32, W + scale * B A; a base in 4 bits is first unpacked to the 16 bits in which its layers
    compute. What is wider than ``dtype`` is rounded to it once, by `rounded`.

    The policy stays as it is. What is neither merged nor rounded is the policy's own memory: copy it before the policy learns on.
    Each weight is made when it is asked for, so that one more layer at a time is held.

    Args:
        policy: A causal language model of transformers, or peft's LoRA, rsLoRA or DoRA on one; whole on this process.
        dtype: What the weights are wanted in.
    """
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    plain = policy.get_base_model() if hasattr(policy, "peft_config") else policy
    with torch.no_grad():
        if get_model_conversion_mapping(plain, add_legacy=False):  # experts, which transformers stacks as it loads them
            yield from revert_weight_conversion(plain, dict(_weights(plain, dtype))).items()
        else:
            yield from _weights(plain, dtype)


def merged_model(policy: Any, dtype: torch.dtype) -> Any:
    """The plain model with these weights; the policy is used up. Its base may not be in 4 bits."""
    import torch

    plain = policy.get_base_model() if hasattr(policy, "peft_config") else policy
    with torch.no_grad():
        weights = dict(_weights(plain, dtype))
    plain = (policy.unload() if hasattr(policy, "peft_config") else policy).to(dtype)
    plain.load_state_dict(weights, strict=False)  # in which tied weights stand once
    return plain


def rounded(weight: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """A weight in 16 bits, up or down by chance, the nearer the likelier, so that sums over many weights keep their mean.

    Rounding to the nearest would undo a training of small steps: the base is made of 16-bit numbers, and an update that is
    smaller than half the distance to the next one is rounded away in every single weight. Ten steps of LoRA on SmolLM2-135M lost
    86 % of their update so (decision 61). A number that 16 bits hold stays as it is, and with it all that was not trained.

    Chance is decided by the place in the weight and its name: equal weights are rounded alike in every process and device. Any
    two weights of a matrix are rounded independently of each other: a row's number is added to a column's.
    """
    import torch

    if weight.dtype != torch.float32 or dtype == torch.float32:
        return weight.to(dtype) if weight.is_floating_point() else weight
    dropped = {torch.bfloat16: 16, torch.float16: 13}[dtype]  # bits of the mantissa
    matrix, own = weight.reshape(-1, weight.shape[-1] if weight.ndim else 1), zlib.crc32(name.encode())
    rows, columns = (_numbers(count, seed, weight.device) for seed, count in enumerate(matrix.shape))
    bits = (rows * (own & 0xFFFF | 1))[:, None] + columns * (own >> 16 | 1)
    bits.bitwise_and_(2**dropped - 1).add_(matrix.view(torch.int32)).bitwise_and_(-(2**dropped))
    return bits.view(torch.float32).view(weight.shape).to(dtype)


@lru_cache(maxsize=64)
def _numbers(count: int, seed: int, device: torch.device) -> torch.Tensor:
    """Random numbers of 32 bits, the same on every device."""
    import torch

    return torch.randint(-(2**31), 2**31, (count,), dtype=torch.int32, generator=torch.Generator().manual_seed(seed)).to(device)


def _weights(plain: Any, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in _exact(plain):
        yield name, rounded(weight, dtype, name)


def _exact(plain: Any) -> Iterator[tuple[str, torch.Tensor]]:
    from peft.tuners.lora import LoraLayer

    for name, weight in plain.named_parameters():  # which names a tied weight once
        path, _, leaf = name.rpartition(".")
        above = plain.get_submodule(path.rpartition(".")[0])
        if not path.endswith(".base_layer"):
            if ".lora_" not in name and ".original_module." not in name:  # in whose place peft trains another, whole
                yield re.sub(r"\.modules_to_save\.[^.]+", "", name), _unpacked(weight)
        elif leaf == "weight" and isinstance(above, LoraLayer):
            yield f"{path.removesuffix('.base_layer')}.weight", _merged(above, _unpacked(weight))
        else:
            yield f"{path.removesuffix('.base_layer')}.{leaf}", weight.detach()
    for path, module in plain.named_modules():
        for leaf, buffer in module.named_buffers(recurse=False):
            if leaf not in module._non_persistent_buffers_set and ".lora_" not in path:
                yield f"{path}.{leaf}".replace(".base_layer.", "."), buffer


def _unpacked(weight: torch.Tensor) -> torch.Tensor:
    """A weight in 4 bits (bitsandbytes) in the 16 bits that a forward pass makes of it; any other as it is."""
    from peft.utils.integrations import dequantize_bnb_weight

    if type(weight).__name__ != "Params4bit":
        return weight.detach()
    unpacked: torch.Tensor = dequantize_bnb_weight(weight)
    return unpacked


def _merged(layer: Any, base: torch.Tensor) -> torch.Tensor:
    """W + scale * B A in float32; with DoRA the same with the length of each row that was learned."""
    whole = base.float()
    for adapter in layer.active_adapters:
        if embeds := adapter in layer.lora_embedding_A:
            update = (layer.lora_embedding_B[adapter].float() @ layer.lora_embedding_A[adapter].float()).T
        else:
            update = layer.lora_B[adapter].weight.float() @ layer.lora_A[adapter].weight.float()
        whole = whole + layer.scaling[adapter] * update
        if adapter in layer.lora_magnitude_vector:
            axis = 0 if embeds else 1
            length = layer.lora_magnitude_vector[adapter].weight.float()
            whole = whole * (length / whole.norm(dim=axis)).unsqueeze(axis)
    return whole
