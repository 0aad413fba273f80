"""The passes of LoRA's layers in mixed precision, with fewer and smaller operations than peft's (decision 62).

peft computes ``W x + (B (A x)) * scale`` one operation after another, and casts x to the type of A and B beforehand: beside a
base in 16 bits those are float32, so that autocast casts x back at once. Each layer then keeps a copy of x for the backward
pass. Here A x is computed from x as it is, and the update is added by the matrix product that makes it (``addmm``): no copy of
x, no multiplication and no addition by themselves. The update is rounded to 16 bits once, with the sum.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def prepare(model: Any) -> None:
    """Let the LoRA layers of a model that is about to be trained compute so: those of linear layers, without dropout and without
    DoRA. Outside autocast, in float32 for instance, they stay peft's.
    """
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        kind: Any = type(layer)
        if isinstance(layer, LoraLayer) and (lean := _lean(kind)) and not _needs_peft(layer):
            layer.__class__ = lean


def _needs_peft(layer: Any) -> bool:
    """Whether an adapter of the layer does more than add its update."""
    return any(
        layer.lora_variant.get(name) or layer.lora_dropout[name].__class__.__name__ != "Identity" or layer.lora_bias[name]
        for name in layer.lora_A
    )


@cache
def _lean(kind: type[Any]) -> type[Any] | None:
    """A subclass of one of peft's layers; None for a kind that is not a linear layer, in 16 bits or in bitsandbytes' 4."""
    from peft.tuners.lora import Linear

    if kind is not Linear and f"{kind.__module__}.{kind.__name__}" != "peft.tuners.lora.bnb.Linear4bit":
        return None

    class Lean(kind):  # type: ignore[misc]
        def forward(self, x: Any, *args: Any, **options: Any) -> Any:
            import torch

            if self.disable_adapters or self.merged or options or not torch.is_autocast_enabled(x.device.type):
                return super().forward(x, *args, **options)
            rows = x.flatten(0, -2)
            result = self.base_layer(rows, *args)
            for name in self.active_adapters:
                if name in self.lora_A:
                    down = self.lora_A[name](rows)
                    up = self.lora_B[name].weight.to(result.dtype)
                    result = torch.addmm(result, down, up.t(), alpha=self.scaling[name])
            return result.unflatten(0, x.shape[:-1])

    Lean.__name__ = Lean.__qualname__ = kind.__name__
    return Lean
