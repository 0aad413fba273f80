"""TRL's online trainers with the steps left out that change nothing: padding, repeated prompts, a second forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medrl.training import flex_attention
from medrl.training.rollout import colocated, micro_batches, shared_prompts

if TYPE_CHECKING:
    import torch

    from medrl.algos.base import Job


def trainer_class(kind: type[Any], job: Job) -> type[Any]:
    """TRL's GRPOTrainer or RLOOTrainer for a job, with our vLLM and with prompts shared where its hardware says so.

    Prompts are shared where its model can.
    """
    kind = colocated.trainer_class(kind, job)
    if not job.run.hardware.shared_prompts:
        return kind
    if obstacle := flex_attention.obstacle(job.policy):
        print(f"prompts  computed again for each completion: {obstacle}", flush=True)
        return kind
    return sharing(kind)


def sharing(kind: type[Any]) -> type[Any]:
    """A subclass of TRL's GRPOTrainer or RLOOTrainer that learns the same from fewer computed tokens.

    - Log-probabilities are computed by `shared_prompts`, so groups stay together when a round of generation is shuffled.
    - Micro-batches hold so many tokens and not so many rows (`micro_batches`).
    - With vLLM, TRL computes the log-probabilities of each completion once more before training, to compare them with the
      sampler's. Where the policy has not changed since (one mini-batch, one iteration), the loss's own pass yields the same.
    """

    class SharedPrompts(kind):  # type: ignore[misc]
        _buffered_inputs: Any

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            for model in (self.accelerator.unwrap_model(self.model), self.ref_model):
                if model is not None:
                    flex_attention.prepare(model)
            self._in_loss: dict[str, Any] | None = None
            """The micro-batch whose loss is computed, where that finds the sampler's ratio, too."""

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            """As TRL, but that whole groups are shuffled, so that the rows of a prompt stand together."""
            import torch
            from trl.trainer.utils import split_tensor_dict

            if not self.model.training:
                return super()._prepare_inputs(generation_batch)
            rounds = self.args.steps_per_generation
            if self._step % (rounds * self.num_iterations) == 0 or self._buffered_inputs is None:
                batch = self._generate_and_score_completions(generation_batch)
                rows = len(batch["completion_ids"])
                groups = torch.arange(rows).split(self.num_generations)
                order = torch.cat([groups[at] for at in torch.randperm(len(groups))])
                shuffled = {name: value[order.to(value.device)] if value.ndim else value for name, value in batch.items()}
                if self._cuts_by_tokens():
                    parts, gather = self.args.gradient_accumulation_steps, self.accelerator.gather
                    steps = split_tensor_dict(shuffled, rounds // parts)
                    self._buffered_inputs = [part for step in steps for part in micro_batches.cut(step, parts, gather)]
                else:
                    self._buffered_inputs = split_tensor_dict(shuffled, rounds)
            return self._buffered_inputs[self._step % rounds]

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            logits_to_keep: int,
            batch_size: int | None = None,
            compute_entropy: bool = False,
            **others: Any,
        ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
            import torch

            if unknown := sorted(name for name, value in others.items() if value not in (None, False)):
                raise RuntimeError(
                    f"This version of TRL hands over {', '.join(unknown)}, which medrl's shared prompts do not know."
                )
            parts = []
            most = batch_size or len(input_ids)
            for rows in shared_prompts.laid_out_together(input_ids, attention_mask, logits_to_keep, most):
                layout = shared_prompts.laid_out(input_ids[rows], attention_mask[rows], logits_to_keep)
                with self.accelerator.autocast():
                    parts.append(shared_prompts.log_probs(model, layout))
            values = torch.cat([part for part, _ in parts])
            if self._in_loss is not None:
                self._compare(self._in_loss, values.detach())
            return values, torch.cat([entropy for _, entropy in parts]) if compute_entropy else None, None

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            """As TRL; without the log-probabilities that the loss's own pass yields as well."""
            corrects = self._corrects_in_loss()
            if corrects:
                self.vllm_importance_sampling_correction = False
            try:
                return super()._generate_and_score_completions(inputs)
            finally:
                if corrects:
                    self.vllm_importance_sampling_correction = True

        def _cuts_by_tokens(self) -> bool:
            """Not where processes gather each other's weights: then all have to compute equally many micro-batches."""
            whole = self.args.steps_per_generation % self.args.gradient_accumulation_steps == 0
            apart = not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
            return whole and apart and getattr(self, "loss_type", None) not in micro_batches.OF_ITS_TOKENS

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            share = inputs.get(micro_batches.SHARE, 1.0)
            if not share:
                return micro_batches.nothing(model)
            self._in_loss = inputs if self._corrects_in_loss() else None
            try:
                loss = super()._compute_loss(model, inputs)
            finally:
                self._in_loss = None
            return loss if getattr(self, "loss_type", None) in micro_batches.OF_ALL_TOKENS else loss * share

        def _corrects_in_loss(self) -> bool:
            rounds = self.args.steps_per_generation * self.num_iterations
            return (
                self.use_vllm
                and getattr(self, "vllm_importance_sampling_correction", False)
                and self.args.gradient_accumulation_steps % rounds == 0
            )

        def _compare(self, batch: dict[str, Any], trained: torch.Tensor) -> None:
            """Put the ratio between trainer and sampler into a micro-batch, as TRL has it, and note how far the two are apart."""
            sampled, mask = batch["sampling_per_token_logps"], batch["completion_mask"]
            ratio = importance_ratio(
                trained,
                sampled,
                mask,
                self.vllm_importance_sampling_mode,
                (self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max),
            )
            batch["importance_sampling_ratio"] = ratio
            apart = (trained - sampled).abs()[mask.bool() & ~sampled.isnan()]
            mean, most = (apart.mean(), apart.max()) if apart.numel() else (apart.new_zeros(()), apart.new_zeros(()))
            noted = self._metrics["train"]
            noted[colocated.APART].append(self.accelerator.gather(mean).mean().item())
            noted["sampling/sampling_logp_difference/max"].append(self.accelerator.gather(most).max().item())
            kept = ratio if ratio.shape[1] == 1 else ratio[mask.bool()]
            for name, value in {"min": kept.min(), "mean": kept.mean(), "max": kept.max()}.items():
                noted[f"sampling/importance_sampling_ratio/{name}"].append(self.accelerator.gather(value).mean().item())

    return SharedPrompts


def importance_ratio(
    trained: torch.Tensor, sampled: torch.Tensor, mask: torch.Tensor, mode: str, clip: tuple[float | None, float | None]
) -> torch.Tensor:
    """What the loss of a token is weighed with, because it was drawn by the sampler and not by the trainer.

    Args:
        trained: Log-probabilities by the trainer, (rows, tokens).
        sampled: By the sampler; NaN where it gave none, which counts as equal.
        mask: 1 for real tokens.
        mode: TRL's ``vllm_importance_sampling_mode``.
        clip: Lowest and highest ratio; None for no bound.

    Returns:
        (rows, tokens), or (rows, 1) in the modes of whole sequences.
    """
    level, _, what = mode.partition("_")
    difference = ((trained - sampled) * mask).nan_to_num(nan=0.0)
    ratio = (difference.sum(-1, keepdim=True) if level == "sequence" else difference).exp()
    low, high = clip
    if what == "truncate":
        return ratio.clamp(min=low, max=high)
    outside = (ratio < (low if low is not None else 0.0)) | (ratio > (high if high is not None else float("inf")))
    return ratio.masked_fill(outside, 0.0)
