"""The command that starts vLLM's own server, such that it asks and answers as the run was measured."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.evaluation.answerer import Answerer
from medrl.models import base
from medrl.models.tokenization import Rendering
from medrl.models.vllm_engine import DTYPES

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks of an adapter for which vLLM makes room (``vllm.config.lora.MaxLoRARanks``)."""
WORDS_FIRST = """\
{{# The words in which the model was trained to be asked, before a conversation without a system message of its own. #}}
{{% if not messages or messages[0]['role'] != 'system' %}}{{% set messages = {words} + messages %}}{{% endif %}}
"""
"""Stands before the chat template."""


def words(asked: Answerer, host: str, port: int) -> list[str]:
    """The command line after ``python``; what it names is written into a folder for temporary files. Raises `UserError` where
    vLLM does not run such weights.
    """
    tokenizer = _tokenizer(asked)
    files = Path(tempfile.mkdtemp(prefix="medrl-serve-"))  # vLLM takes this process's place, so that nobody is left to remove it
    tokenizer.save_pretrained(files)
    template = files / "chat_template.jinja"
    template.write_text(with_words(asked, tokenizer.chat_template), encoding="utf-8")
    settings, hardware = asked.settings.eval, asked.settings.hardware
    drawn = {"temperature": settings.temperature, "top_p": settings.top_p, "max_new_tokens": settings.max_new_tokens}
    found = [
        *("-m", "vllm.entrypoints.cli.main", "serve", *_weights(asked)),
        *("--host", host, "--port", str(port), "--seed", str(asked.settings.seed)),
        *("--tokenizer", str(files), "--chat-template", str(template), "--chat-template-content-format", "string"),
        *("--dtype", DTYPES[hardware.precision], "--max-model-len", str(asked.settings.model.context_tokens)),
        *("--tensor-parallel-size", str(hardware.gpus)),
        *("--generation-config", "vllm", "--override-generation-config", json.dumps(drawn)),
    ]
    if hardware.device != "cpu" and hardware.vllm_memory_share != "auto":
        found += ["--gpu-memory-utilization", str(hardware.vllm_memory_share)]
    if asked.settings.model.quantization:
        found += ["--quantization", "bitsandbytes"]
    if getattr(asked.settings.model, "trust_remote_code", False):
        found.append("--trust-remote-code")
    if Rendering(tokenizer).opening and {"<think>", "</think>"} <= set(tokenizer.get_vocab()):
        found += ["--reasoning-parser", "deepseek_r1"]
    return found


def with_words(asked: Answerer, template: str) -> str:
    """A chat template that says what stands before every question, where a conversation does not."""
    opening = asked.conversation([])
    return WORDS_FIRST.format(words=json.dumps(opening, ensure_ascii=False)) + template if opening else template


def _tokenizer(asked: Answerer) -> Any:
    base.quiet()
    model = asked.settings.model
    return base.written_tokenizer(model, asked.written) if asked.written else model.tokenizer(lambda: ())


def _weights(asked: Answerer) -> list[str]:
    """What is served, by name: an adapter beside its base; whole weights that were trained alone, as one server holds one model.
    Raises `UserError` where the adapter is of a kind that vLLM lacks.
    """
    model, folder = asked.settings.model, asked.written
    if folder and not (folder / "adapter_config.json").exists():
        return [str(folder), "--served-model-name", "trained"]
    stored = model.stored(asked.settings.hardware)
    found = [stored.name, "--served-model-name", "base", *(["--revision", stored.revision] if stored.revision else [])]
    if folder:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank = max([config["r"], *config.get("rank_pattern", {}).values()])
        if config.get("use_dora") or rank > RANKS[-1]:
            kind = "DoRA" if config.get("use_dora") else f"rank {rank}"
            raise UserError(f"vLLM runs no adapter of {kind}; write engine=transformers, or serve an export.")
        found += ["--enable-lora", "--max-lora-rank", str(next(each for each in RANKS if each >= rank))]
        found += ["--lora-modules", f"trained={folder}"]
    return found
