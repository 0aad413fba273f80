"""What a user may have meant by a word that is no option."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

RENAMED = {
    # What TRL called it once, or calls it now, and what to write here.
    "max_prompt_length": "data_mix.max_prompt_tokens (rows over it are dropped and counted; prompts are never cut)",
    "max_completion_length": "algo.max_completion_tokens",
    "max_seq_length": "algo.max_tokens (sft)",
    "max_length": "algo.max_tokens (sft); dpo and grpo have algo.max_completion_tokens",
    "warmup_ratio": "algo.warmup_fraction",
    "warmup_steps": "algo.warmup_fraction (a share of the steps)",
    "per_device_train_batch_size": "algo.batch_size (the global batch) and hardware.micro_batch_size",
    "gradient_accumulation_steps": "algo.batch_size (accumulation follows from it and hardware.micro_batch_size)",
    "num_train_epochs": "algo.epochs",
    "max_steps": "algo.steps",
    "save_steps": "algo.checkpoint_steps",
    "lr_scheduler_type": "algo.schedule",
    "lr": "algo.learning_rate",
    "optim": "algo.optimiser",
    "optimizer": "algo.optimiser",
    "bf16": "hardware.precision=bf16",
    "fp16": "hardware.precision=fp16",
    "gradient_checkpointing": "hardware.gradient_checkpointing",
    "use_vllm": "hardware.rollout=vllm",
    "load_in_4bit": "model.quantisation=nf4",
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_dropout": "model.lora.dropout",
    "target_modules": "model.lora.modules (null: every linear layer but the head)",
    "use_rslora": "model.lora.rslora",
    "use_dora": "model.lora.dora",
    "steps_per_generation": "algo.mini_batches",
    "mask_truncated_completions": "algo.mask_truncated",
    "fsdp": "hardware.sharding=fsdp",
    "deepspeed": "hardware.sharding=zero2 or zero3",
    "nproc_per_node": "hardware.gpus",
    "nnodes": "hardware.nodes",
    "tokenizer": "model (the tokenizer comes with it)",
    "output_dir": "runs (the run folder's name follows from the configuration)",
    "overwrite_output_dir": "force=true",
    "logging_dir": "runs (curves are in the run folder's train/log.jsonl and report.html)",
    "save_safetensors": "nothing: weights are always written as safetensors",
    "report_to": "track=wandb for W&B (train/log.jsonl and report.html are always written)",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean x?`` for the nearest known word, else the list of what there is."""
    options = sorted(known)
    swapped = [option for option in options if sorted(option) == sorted(word)]  # gpro is grpo, not gspo
    close = swapped or difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"there is: {', '.join(options) or 'none'}"


def unknown(key: str, known: Iterable[str]) -> str:
    """Message for an option that no class declares, with the new name where it is one of TRL's."""
    leaf = key.rsplit(".", 1)[-1]
    options = list(known)
    if leaf in RENAMED and leaf not in options:
        return f"no such option; write {RENAMED[leaf]}"
    return f"no such option; {nearest(leaf, options)}"
