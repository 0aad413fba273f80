"""Language consistency: think and answer in the language of the question (DeepSeek-AI 2025, arXiv 2501.12948, section 2.3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from medrl.grading.answers import tags
from medrl.rewards.base import Completion, Reward

CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, kw_only=True)
class LanguageConsistency(Reward):
    """Share of the words that are of the task's language, a Chinese character being a word; 0 for a text without words."""

    kind: ClassVar[str] = "language_consistency"

    def score(self, completion: Completion) -> float:
        text = completion.text
        for mark in tags(completion.row.task.format):
            text = text.replace(mark, " ")
        chinese = len(CHINESE.findall(text))
        others = WORD.findall(CHINESE.sub(" ", text))
        latin = sum(word[0].isascii() or "\u00c0" <= word[0] <= "\u024f" for word in others)
        right = chinese if completion.row.task.language == "zh" else latin
        return right / (chinese + len(others)) if chinese or others else 0.0
