"""vLLM on the trainer's own GPU, which samples from exactly the policy that is trained."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from medrl.errors import UserError
from medrl.models import vllm_engine

if TYPE_CHECKING:
    from medrl.algos.base import Job
    from medrl.training.hardware import Hardware

APART = "sampling/sampling_logp_difference/mean"
"""TRL's name for the mean difference of the log-probability of a token, sampler against trainer."""
PARTED = 0.5
"""Such a difference at which a run stops. 16-bit rounding makes 0.01 to 0.03; a sampler with other weights makes several."""


def trainer_class(kind: type[Any], job: Job) -> type[Any]:
    """One of TRL's online trainers; where vLLM generates, with our engine, and with a stop where that parts from the policy.

    TRL finds its engine as `VLLMGeneration` in the trainer's module; that name stands for ours while a trainer is made.
    """
    if job.run.hardware.rollout != "vllm":
        return kind
    from medrl.models.generation import eos_token_ids

    module: Any = sys.modules[kind.__module__]
    ends = sorted(eos_token_ids(job.policy, job.tokenizer))
    made = {"seed": job.run.seed, "hardware": job.run.hardware, "ends": ends}

    class Colocated(kind):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            theirs, ours = module.VLLMGeneration, engine_class()
            module.VLLMGeneration = lambda **named: ours(**named, **made)
            try:
                super().__init__(*args, **options)
            finally:
                module.VLLMGeneration = theirs

        def _compute_loss(self, *args: Any, **options: Any) -> Any:
            loss = super()._compute_loss(*args, **options)
            check_together(self._metrics["train"])
            return loss

    return Colocated


def check_together(noted: MutableMapping[str, list[float]]) -> None:
    """Raises `UserError` where a trainer's metrics since it last logged say that the sampler has drawn from another model."""
    if noted.get(APART) and noted[APART][-1] > PARTED:
        raise UserError(
            "vLLM samples from another model than the one that is trained: the log-probabilities of the same tokens are "
            f"{noted[APART][-1]:.2f} apart on average (rounding makes 0.03 at most). Write hardware.rollout=transformers."
        )


def engine_class() -> type[Any]:
    """TRL's colocated vLLM with exact weights.

    - TRL merges an adapter into its base as that is stored, so that a base in 4 bits is rounded to 4 bits again, and so is vLLM's
      copy; in 16 bits it loses updates that are small beside their weight. Here vLLM computes in the run's precision and is
      handed `merged_weights`, all in one call.
    - It is the engine of this process (`medrl.models.vllm_engine`), which has answered before training and will afterwards: it
      starts once. Its weights are random until they are handed over.
    - What it draws follows the run's seed; TRL's is the number of the process in every run.

    Weights that are divided among processes (FSDP, ZeRO-3) are gathered as TRL gathers them, and are in 16 bits there.
    """
    import torch
    from transformers import set_seed
    from trl.generation.vllm_generation import VLLMGeneration, empty_cache

    from medrl.models.merged import merged_weights

    class Engine(VLLMGeneration):  # type: ignore[misc]
        def __init__(self, *, seed: int, hardware: Hardware, ends: list[int], **options: Any) -> None:
            """As TRL's, and: the run's seed and hardware, and the tokens that end a completion."""
            self._seed, self._hardware = seed, hardware
            sampling = {"stop_token_ids": ends, "detokenize": False}
            super().__init__(**options | {"generation_kwargs": sampling | (options.get("generation_kwargs") or {})})

        def _init_vllm(self) -> None:
            place = self.accelerator
            size = vllm_engine.share_bytes(self.gpu_memory_utilization, self._hardware, place.device)
            self.llm = vllm_engine.engine_for(self.model, self._hardware, self.max_model_length, size)
            set_seed(self._seed + place.process_index)
            if self.enable_sleep_mode != self.llm.llm_engine.is_sleeping():
                self.llm.sleep(level=2) if self.enable_sleep_mode else self.llm.wake_up()
            self._llm_weights_sleeping = self.enable_sleep_mode
            place.wait_for_everyone()

        def sync_weights(self) -> None:
            if self.enable_sleep_mode:
                empty_cache()
                self.llm.wake_up(tags=["weights"])
                self._llm_weights_sleeping = False
            divided = self._dist.is_zero3 or self._dist.is_fsdp
            dtype = getattr(torch, vllm_engine.DTYPES[self._hardware.precision])
            weights = self._iter_named_params() if divided else merged_weights(self.model, dtype)
            with torch.no_grad():
                self.llm.apply_model(lambda model: vllm_engine.take(model, weights))
            if not self.llm.reset_prefix_cache():
                raise RuntimeError("vLLM keeps keys and values that other weights have made.")

    return Engine
