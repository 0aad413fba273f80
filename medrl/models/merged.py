"""The weights of a policy as a plain checkpoint holds them: adapters added to their base, 4 bits unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def merged_weights(policy: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and weights of the plain model, as ``save_pretrained`` of the merged model writes them; tied weights once.

    An adapter is added in float32, W + scale * B A, and the sum rounded once to the type of W; a base in 4 bits is first unpacked
    to the 16 bits in which its layers compute. So these are the weights that the policy computes with, to one rounding.

    The policy stays as it is. What is not merged is the policy's own memory: copy it before the policy learns on. Each merged
    weight is made when it is asked for, so that one more layer at a time is held.

    Args:
        policy: A causal language model of transformers, or peft's LoRA, rsLoRA or DoRA on one; whole on this process.
    """
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import revert_weight_conversion

    plain = policy.get_base_model() if hasattr(policy, "peft_config") else policy
    with torch.no_grad():
        if get_model_conversion_mapping(plain, add_legacy=False):  # experts, which transformers stacks as it loads them
            yield from revert_weight_conversion(plain, dict(_weights(plain))).items()
        else:
            yield from _weights(plain)


def _weights(plain: Any) -> Iterator[tuple[str, torch.Tensor]]:
    from peft.tuners.lora import LoraLayer

    for name, weight in plain.named_parameters():  # which names a tied weight once
        path, _, leaf = name.rpartition(".")
        above = plain.get_submodule(path.rpartition(".")[0])
        if not path.endswith(".base_layer"):
            if ".lora_" not in name:
                yield name, _unpacked(weight)
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
    """W + scale * B A, in the type of W; with DoRA the same with the length of each row that was learned."""
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
    return whole.to(base.dtype)
