"""Low-rank adapters: which layers get one, and how the update is scaled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

from medrl.config.bounds import Most
from medrl.config.identity import Identified
from medrl.errors import UserError

Task = Literal["CAUSAL_LM", "SEQ_CLS"]
"""What peft calls a language model and a classifier (whose fresh head it then trains whole)."""


@dataclass(frozen=True, kw_only=True)
class Lora(Identified):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): weights W + scale * B A, with only A and B trained."""

    kind: ClassVar[str] = "lora"

    rank: Annotated[int, Gt(0), Most(8192, "an adapter of more is no smaller than the layer that it adapts")]
    """Rank of B A, which is the size of the adapter."""
    alpha: Annotated[float, Gt(0)]
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Ge(0), Le(1)]
    """Share of an adapter's inputs that is set to 0 while it trains."""
    modules: Annotated[tuple[str, ...], MinLen(1)] | None
    """Names of the linear layers that get an adapter; null: all of the architecture but its output head."""
    rslora: bool
    """Scale by alpha / sqrt(rank) instead, so that a higher rank learns more (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732)."""
    dora: bool
    """Train the length of each row of W + scale * B A apart from its direction (Liu et al. 2024, arXiv 2402.09353, equation 5).

    It works on a base in 4 bits, too, which it unpacks in every forward pass."""

    def targets(self, model: Any) -> list[str]:
        """Names of the layers that get an adapter; the model's weights may be on the meta device. Raises `UserError` where
        ``modules`` names a layer that the architecture lacks, that can have no adapter, or that has its weight in common with
        another.
        """
        from medrl.config.suggest import nearest

        default, all_layers = linear_layers(model)
        if not default:
            raise UserError(f"{type(model).__name__} has no linear layers that LoRA could adapt; write model.lora=null.")
        if self.modules is None:
            return sorted(_last_parts(default))
        for name in self.modules:
            if not any(path == name or path.endswith(f".{name}") for path in all_layers):
                raise UserError(
                    f"model.lora.modules names {name!r}, which is no linear layer of {type(model).__name__}; "
                    f"{nearest(name, _last_parts(default))}, or write null for all of them."
                )
            for path, other in shared_weights(model):
                if path == name or path.endswith(f".{name}"):
                    raise UserError(
                        f"model.lora.modules names {name!r}, whose weight is that of {other}, too (tie_word_embeddings): an "
                        "adapter would change it in one place, and the sum of both in two; leave it out, or write "
                        "model.lora=null to train all weights."
                    )
        return list(self.modules)

    def peft_config(self, targets: Sequence[str], task: Task) -> Any:
        """The same for peft."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(targets),
            use_rslora=self.rslora,
            use_dora=self.dora,
            task_type=task,
        )


def linear_layers(model: Any) -> tuple[list[str], list[str]]:
    """Paths of the linear layers without the output head, and of all layers that can have an adapter."""
    from torch.nn import Embedding, Linear

    head = model.get_output_embeddings()
    linear = {path: layer for path, layer in model.named_modules() if isinstance(layer, Linear)}
    body = [path for path, layer in linear.items() if layer is not head]
    embeddings = [path for path, layer in model.named_modules() if isinstance(layer, Embedding)]
    return body, [*linear, *embeddings]


def shared_weights(model: Any) -> list[tuple[str, str]]:
    """Paths of layers that have their weight in common: each with each other."""
    holders: dict[int, list[str]] = {}
    for path, layer in model.named_modules():
        for weight in layer.parameters(recurse=False):
            holders.setdefault(id(weight), []).append(path)
    return [pair for paths in holders.values() for pair in permutations(paths, 2)]


def _last_parts(paths: Collection[str]) -> set[str]:
    return {path.rpartition(".")[2] for path in paths}
