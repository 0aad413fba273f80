"""A judge without a model: the words of the answer against the words of the gold or of a criterion."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

from annotated_types import Gt, Le

from medrl.grading.judges.base import Claim, Criterion, Judge
from medrl.grading.unicode import nfkc

CJK = "\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff\uac00-\ud7af"
TOKEN = re.compile(rf"(?<!\w)[-\u2212]?\d+(?:[.,]\d+)*|[{CJK}]|[^\W_{CJK}]+")
"""A number with its sign and decimals, a Chinese, Japanese or Korean character, or a word."""
PART = re.compile(r"[;|/\n、。]|,(?!\d)|\.(?:\s|$)")
"""What separates the items of a list. NFKC has made full-width commas and semicolons plain ones."""
EMPTY_WORDS = frozenset("an the is are was were be it its this that of to in on for and".split())  # noqa: SIM905
DECISIVE = frozenset(
    "or no not non none nor never neither without cannot absent yes left right high low increase decrease increased decreased"  # noqa: SIM905
    " acute chronic benign malignant positive negative 或 不 没 無 无 非 未 否 左 右 高 低 升 降 急 慢 阴 阳".split()
)
"""Words that turn a meaning around however many others agree: both texts have them or neither."""


@dataclass(frozen=True, kw_only=True)
class Lexical(Judge):
    """Right when the F1 of the answer's and the gold's words reaches a threshold. For embedded runs and tests.

    Wrong whatever the F1: an empty answer, the question copied, a number or a word such as ``no`` or ``left`` that only one of
    the two has, and a list with an item of which the gold says no word. A criterion is met where the threshold's share of its
    words stands in the response.
    """

    kind: ClassVar[str] = "lexical"
    name: ClassVar[str] = "lexical"

    threshold: Annotated[float, Gt(0), Le(1)]
    """Least F1 of a right answer."""

    def judge(self, claims: Sequence[Claim | Criterion]) -> list[bool | None]:
        return [self._met(claim) if isinstance(claim, Criterion) else self._same(*claim) for claim in claims]

    def describe(self) -> str:
        return "lexical (token overlap, no model)"

    def _met(self, claim: Criterion) -> bool:
        wanted, given = _words(claim.criterion), _words(claim.answer)
        return sum((wanted & given).values()) >= self.threshold * wanted.total()

    def _same(self, question: str, gold: str, answer: str) -> bool:
        wanted, given = _words(gold), _words(answer)
        if not wanted:  # a gold such as "+": nothing but the sign itself is right
            return bool(gold.strip()) and _plain(gold) == _plain(answer)
        overlap = _f1(given, wanted)
        if overlap < self.threshold or _decisive(given) != _decisive(wanted):
            return False
        if _plain(answer) == _plain(question) or _f1(given, _words(question)) > overlap:
            return False
        parts = map(_words, PART.split(nfkc(answer)))
        return all(not part or any(token in wanted for token in part) for part in parts)


@lru_cache(maxsize=4096)
def _words(text: str) -> Counter[str]:
    """The words that carry meaning, counted. A text of nothing but empty words keeps them all: ``A`` may be an option."""
    plain = nfkc(text)
    # A lower-case "a" is an article; "vitamin A" and "hepatitis A" are not.
    found = [token.casefold() for token in TOKEN.findall(plain) if token != "a"]
    found = [token.replace(",", "").replace("\u2212", "-") for token in found]
    carrying = [token for token in found if token not in EMPTY_WORDS]
    return Counter(carrying or found or TOKEN.findall(plain.casefold()))


def _plain(text: str) -> str:
    return nfkc(text).casefold().strip()


def _f1(first: Counter[str], second: Counter[str]) -> float:
    """Twice the shared words over all words of both."""
    both = first.total() + second.total()
    if not both:
        return 0.0
    few, many = (first, second) if len(first) <= len(second) else (second, first)
    return 2 * sum(min(count, many[token]) for token, count in few.items() if token in many) / both


def _decisive(words: Counter[str]) -> set[str]:
    return {token for token in words if token in DECISIVE or any(map(str.isdigit, token))}
