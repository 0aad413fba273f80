"""How byte-level BPE splits a text into words before it merges bytes: the ways that are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_BEGIN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_END = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"qwen2": rf"{_BEGIN}\p{{N}}{_END}", "llama-bpe": rf"{_BEGIN}\p{{N}}{{1,3}}{_END}"}
"""Regular expressions that published tokenizers split texts by, under llama.cpp's names."""
SPLITS = {(pattern,): name for name, pattern in PATTERNS.items()} | {("digits", "words"): "smollm", ("words",): "gpt-2"}
"""The steps of a ``pre_tokenizer``, and what llama.cpp calls them."""


def name_of(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    """What llama.cpp calls the way in which the ``pre_tokenizer`` of a ``tokenizer.json`` splits words; None of another one."""
    step = pre_tokenizer or {}
    return SPLITS.get(tuple(_steps(step.get("pretokenizers", [step]))))


def _steps(steps: list[Mapping[str, Any]]) -> Iterator[str]:
    for step in steps:
        if step.get("type") == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            yield step["pattern"].get("Regex", "")
        elif step.get("type") == "Digits" and step["individual_digits"]:
            yield "digits"
        elif step.get("type") != "ByteLevel" or step["add_prefix_space"]:
            yield "unknown"
        elif step["use_regex"]:
            yield "words"
