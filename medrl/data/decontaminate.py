"""What training must not see: rows that share an id, a question or a run of words with a held-out row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

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
# Soft hyphens and marks of no width stand inside words of text that was copied from PDF or HTML.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


class DedupKey(NamedTuple):
    """What a row is compared by."""

    task: str
    """Data set. Ids are compared only within one."""
    id: str
    """Empty: the row has none, and none is compared."""
    question: str
    """Question and choices, in one text."""
    texts: tuple[str, ...]
    """Question, context and whatever else a model reads. An n-gram never spans two of them."""


class Match(NamedTuple):
    """Why a row must not be trained on."""

    reason: Literal["id", "question", "n-gram"]
    held_out: str
    """``task:id`` of the held-out row that it shares something with."""
    shared: str
    """The id, the normalized question (its first 200 characters) or the n-gram, as readable text."""


class Decontaminator:
    """Says which rows share an id, a question or an n-gram with a held-out row.

    Texts are compared by their `units`, in order, so an n-gram is 13 words, or 13 characters where a script has no spaces.
    An id is compared within its data set, a question and an n-gram with every held-out row.

    The length is that of GPT-3's decontamination (Brown et al. 2020, arXiv 2005.14165, appendix C). Unlike there,
    n-grams that many rows share are not exempt, nor are runs of numbers or of one repeated word: a training row lost
    costs little, a test question seen in training makes the result false, and `Match.shared` shows what it was.

    N-grams are kept whole and compared as they are, never by a hash alone, so every match is real and none is missed.
    """

    def __init__(self, held_out: Iterable[DedupKey], n: int = 13) -> None:
        """Read the held-out rows. Where several share something, the first of them is the one that matches name.

        Args:
            held_out: Rows that are evaluated.
            n: Units that two texts have to share in a row.

        Raises:
            ValueError: n is not positive.
        """
        if n < 1:
            raise ValueError(f"an n-gram needs at least one unit, got n={n}")
        self._n = n
        self._ids: set[tuple[str, str]] = set()
        self._questions: dict[str, str] = {}
        self._ngrams: dict[tuple[str, ...], str] = {}
        vocabulary: dict[str, str] = {}  # n-grams hold one object for each word, not one for each occurrence
        for row in held_out:
            name = f"{row.task}:{row.id}"
            if row.id:
                self._ids.add((row.task, row.id))
            if question := _readable(units(row.question)):
                self._questions.setdefault(question, name)
            for text in row.texts:
                for ngram in ngrams([vocabulary.setdefault(unit, unit) for unit in units(text)], n):
                    self._ngrams.setdefault(ngram, name)

    def match(self, row: DedupKey) -> Match | None:
        """The first thing that a row shares with a held-out one, or None.

        The id is looked at first, then the question, then the n-grams in the order of the texts. A question without a
        single word or number equals no other.
        """
        if (row.task, row.id) in self._ids:
            return Match("id", f"{row.task}:{row.id}", row.id)
        question = _readable(units(row.question))
        if question in self._questions:
            return Match("question", self._questions[question], question[:200])
        for text in row.texts:
            ngram = next(filter(self._ngrams.__contains__, ngrams(units(text), self._n)), None)
            if ngram is not None:
                return Match("n-gram", self._ngrams[ngram], _readable(ngram))
        return None


def units(text: str) -> list[str]:
    """What a text is compared by: words and numbers in lower case, and each ideograph or kana by itself.

    Chinese and Japanese write no spaces, so there the character is the unit. Punctuation, white space, underscores, marks
    without width, character width and Unicode forms (NFKC) leave no trace.
    """
    if not text.isascii():
        text = _INVISIBLE.sub("", nfkc(text))
    # Folding takes letters with two accents apart, and an accent alone is no letter: it would cut the word in two.
    return _UNIT.findall(nfkc(text.casefold()))


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every run of n words, in order; none where there are fewer."""
    return zip(*(words[start:] for start in range(n)), strict=False)


def _readable(words: Iterable[str]) -> str:
    """Units as one would write them: no space between two ideographs."""
    return _BETWEEN_UNSPACED.sub("", " ".join(words))
