"""A decision: one of a few words that are the same for every question, such as yes, no and maybe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading
from medrl.grading.peeling import MOST_CHARACTERS, peel
from medrl.grading.wording import NEGATION, without_denied

CHINESE = {
    "是": "yes",
    "是的": "yes",
    "对": "yes",
    "否": "no",
    "不是": "no",
    "不": "no",
    "也许": "maybe",
    "可能": "maybe",
    "不确定": "maybe",
}
"""The words of decisions in Chinese, where a whole answer is one of them."""
_SUBJECT = r"\s+(?:it|they|this|that|these|those|he|she|we|there)\b(?!\s+(?:is|are|was|were)\s+no\b)"
_DENIED = re.compile(r"\s+(?:not\b|(?:is|was|(?:would|can|must)\s+be)\s+(?:not|wrong|incorrect|unlikely|false)\b)")
"""What takes back the decision before it: ``yes is wrong``."""


@dataclass(frozen=True)
class Decision(AnswerType):
    """One of a few words, the same for every question."""

    words: tuple[str, ...]

    def check_gold(self, example: Example) -> str:
        gold = example.gold.strip().lower()
        if gold not in self.words:
            raise ValueError(f"the answer should be one of {', '.join(self.words)}, is {example.gold!r:.60}")
        return gold

    def options(self, example: Example) -> Sequence[str]:
        return self.words

    def read(self, text: str, example: Example) -> Reading:
        """The word alone, or the only one that a sentence decides for; a denied one and two at once are wrong."""
        if text in self.words:
            return Reading(text, float(text == example.gold))
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        answer = " ".join(peel(text).lower().replace("\n", "; ").split())
        value = answer if answer in self.words else CHINESE.get(answer)
        if value in self.words:
            return Reading(value, float(value == example.gold))
        found = [match for match in self._named.finditer(answer) if self._decides(match, answer)]
        if not found:
            return NOTHING
        named = {match[0] for match in found}
        before, after = answer[: found[0].start()], answer[found[0].end() :]
        if len(named) > 1:  # "maybe, not a clear yes" decides, "yes or no" does not
            named &= {match[0] for match in self._named.finditer(without_denied(answer))}
        if named != {found[0][0]} or _DENIED.match(after) or (NEGATION.search(before) and not _stated(before)):
            return UNDECIDED
        value = named.pop()
        return Reading(value, float(value == example.gold), alone=False)

    @cached_property
    def _named(self) -> re.Pattern[str]:
        longest_first = sorted(self.words, key=len, reverse=True)  # "not mentioned" before "mentioned"
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")

    @staticmethod
    def _decides(match: re.Match[str], answer: str) -> bool:
        """Whether a word decides. The "no" of "no access" belongs to what follows it."""
        if match[0] != "no":
            return True
        after = answer[match.end() :]
        return not re.match(r"\s+\w", after) or bool(match.start() == 0 and re.match(_SUBJECT, after))


def _stated(before: str) -> bool:
    """Whether what denies stands in an earlier part, and the decision is stated after it: ``no difference was seen, so no``."""
    part = re.split(r"[,.;:]", before)[-1]
    return part != before and NEGATION.search(part) is None
