"""Models of real shapes with random weights, so that a benchmark downloads none."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from medrl.models.base import EMBEDDED

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TINY = EMBEDDED / "tiny"
"""A tokenizer where no real one is given."""


def _qwen(hidden: int, wide: int, layers: int, heads: int, key_value_heads: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": wide, "num_hidden_layers": layers, "num_attention_heads": heads}
    return sizes | {"num_key_value_heads": key_value_heads, "vocab_size": vocabulary, "tie_word_embeddings": tied}


SHAPES = {
    "7b": _qwen(3584, 18944, 28, 28, 4, 152064, False),
    "3b": _qwen(2048, 11008, 36, 16, 2, 151936, True),
    "1.5b": _qwen(1536, 8960, 28, 12, 2, 151936, True),
    "0.5b": _qwen(896, 4864, 24, 14, 2, 151936, True),
    "tiny": _qwen(64, 176, 2, 4, 2, 1536, True),
}
"""Qwen2.5's, as its ``config.json`` files say, and one for processors."""


def config(shape: str) -> Qwen2Config:
    """The architecture of a shape, of Qwen2.5's precision and context."""
    return Qwen2Config(**SHAPES[shape], max_position_embeddings=32768, rope_theta=1e6, dtype="bfloat16")


def written(shape: str, tokenizer: Path, folder: Path) -> Path:
    """Write random weights of a shape, and a tokenizer, where transformers and vLLM load them.

    Args:
        shape: One of `SHAPES`.
        tokenizer: Folder of a tokenizer with a chat template, and with no more words than the shape.
        folder: Where to.
    """
    torch.manual_seed(0)
    words = AutoTokenizer.from_pretrained(tokenizer)
    made = config(shape)
    if len(words) > made.vocab_size:
        raise SystemExit(f"{tokenizer} has {len(words):,} words, and the shape {shape} has room for {made.vocab_size:,}.")
    made.eos_token_id, made.pad_token_id, made.bos_token_id = words.eos_token_id, words.pad_token_id, None
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def asked(tokenizer: Any, tokens: int, folder: Path) -> list[str]:
    """Options of a run on made-up questions of a length, which are written to ``folder``."""
    words = ("study", "patient", "treatment", "group", "outcome", "dose", "trial", "risk", "after", "with")
    text = tokenizer(" ".join(random.Random(0).choices(words, k=tokens)))["input_ids"][:tokens]
    for split in ("train", "test"):
        rows = [{"question": f"{split} {number}: {tokenizer.decode(text)}", "answer": str(number)} for number in range(64)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = [f"data_mix.tasks.rows.{split}={folder / split}.jsonl" for split in ("train", "test")]
    return ["data_mix=rows", "data_mix.rows=64", "data_mix.decontaminate=none", *named]
