"""What texts are compared by: words, numbers and Chinese characters, and how much each of them says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from medrl.grading.unicode import nfkc

# Ideographs and kana after NFKC, which has turned half-width and most compatibility forms into these. The middle dot
# U+30FB and the combining marks lie between the ranges: they are no letters.
_UNSPACED = (
    "\u3005\u3007"  # iteration mark, ideographic zero
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001b000-\U0001b16f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # ideographs
)
_UNIT = re.compile(rf"[^\W_{_UNSPACED}]+|[{_UNSPACED}]")
_BETWEEN_UNSPACED = re.compile(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])")
_ASCII = bytes(byte if chr(byte).isalnum() else ord(" ") for byte in bytes(range(256)).lower())
"""What `units` makes of each ASCII character: a small letter, a digit, or what stands between two units."""
# Soft hyphens and marks of no width stand inside words of text that was copied from PDF or HTML.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def units(text: str) -> list[str]:
    """What a text is compared by: words and numbers in lower case, and each ideograph or kana by itself.

    Chinese and Japanese write no spaces, so there the character is the unit. Punctuation, white space, underscores, marks
    without width, character width and Unicode forms (NFKC) leave no trace.
    """
    if text.isascii():
        return text.encode().translate(_ASCII).decode().split()
    text = _INVISIBLE.sub("", nfkc(text))
    # Folding takes letters with two accents apart, and an accent alone is no letter: it would cut the word in two.
    return _UNIT.findall(nfkc(text.casefold()))


def readable(words: Iterable[str]) -> str:
    """Units as one would write them: no space between two ideographs."""
    return _BETWEEN_UNSPACED.sub("", " ".join(words))


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every run of n words, in order; none where there are fewer."""
    return zip(*(words[start:] for start in range(n)), strict=False)


def weight(unit: str) -> float:
    """How much a unit says, 0 to 1: a common word little, a rare one 1, a masked number nothing."""
    return _weights().get(unit, 1.0)


@cache
def _weights() -> dict[str, float]:
    """Weights of the common units; one that is not listed is rare.

    ``(ln(share) / 8)²`` in steps of 0.05, where share is the share of sentences that hold the unit. English: 49,969 sentences
    of the questions of MedMCQA (validation) and GSM8K (train), of PubMedQA (official train) and of textbooks (OpenStax,
    MedQuAD). Chinese: character frequencies of jieba's dictionary (MIT licence) for a sentence of 20 characters.
    """
    lines = Path(__file__).with_name("unit_weights.txt").read_text(encoding="utf-8").splitlines()
    return {unit: float(line[:4]) for line in lines for unit in line[5:].split()}
