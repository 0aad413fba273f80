"""How many tokens texts have. A tokenizer that cuts texts before each word is asked once for a word that recurs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from os.path import commonprefix
from typing import TYPE_CHECKING

from medrl.models import word_splits

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORD = re.compile(r"(?s).(?:[^ \n.,:;?!]+|(?<![A-Za-z0-9])[\n.,:;?!]|(?<=\s) )*")
"""Cuts a text before a space behind anything but white space, and before a newline or mark behind a letter or digit. No way of
`word_splits` matches across such a cut or looks behind it, so that a text which is cut there first is split alike."""
LETTERS = 20
"""Of a word on average, above which a text (a Chinese one, say) has too few spaces to be cut by them."""
REMEMBERED = 2**16
"""Words whose tokens are known, twice at most: those that were new since then, and as many before them."""


class WordCounts(dict[str, int]):
    """Tokens of each word that was seen, and of texts (`of`)."""

    def __init__(self, backend: Tokenizer) -> None:
        self.backend = backend
        self.by_word = cuts_before_words(backend)
        self.before: dict[str, int] = {}

    def __missing__(self, word: str) -> int:
        if len(self) >= REMEMBERED:
            self.before = dict(self)
            self.clear()
        self[word] = count = self.before.get(word) or len(self.backend.encode(word, add_special_tokens=False))
        return count

    def of(self, texts: Sequence[str], most: int) -> list[int]:
        """How many tokens each text becomes, without those that the tokenizer puts around every text. Of one that cannot become
        more than ``most``, how many it can: no token of ASCII is shorter than a letter.
        """
        counted = self._by_word(texts, most) if self.by_word else {}
        whole = [text for text in texts if text not in counted]
        counted |= zip(whole, map(len, self.backend.encode_batch_fast(whole, add_special_tokens=False)), strict=True)
        return [counted[text] for text in texts]

    def _by_word(self, texts: Sequence[str], most: int) -> dict[str, int]:
        """Of those texts that need not be counted whole. What they all begin with is counted once."""
        shared = WORD.findall(commonprefix(texts))[:-1]  # noqa: RUF071 - texts are no paths. The last word may go on
        start, begun = sum(map(len, shared)), sum(map(self.__getitem__, shared))
        counted = {}
        for text in texts:
            can = begun + len(text) - start
            if can <= most and text.isascii():
                counted[text] = can
            elif len(text) - start <= LETTERS * len(words := WORD.findall(text, start)):
                counted[text] = begun + sum(map(self.__getitem__, words))
        return counted


def cuts_before_words(backend: Tokenizer) -> bool:
    """Whether the tokens of a text are those of its `WORD`s: in byte-level BPE that splits texts in a way that is known."""
    from tokenizers.models import BPE

    if not isinstance(backend.model, BPE) or backend.model.dropout or not backend.pre_tokenizer:
        return False
    if backend.normalizer and json.loads(backend.normalizer.__getstate__()) != {"type": "NFC"}:
        return False
    tokens = backend.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip or token.single_word or len(WORD.findall(token.content)) > 1 for token in tokens):
        return False
    return word_splits.name_of(json.loads(backend.pre_tokenizer.__getstate__())) is not None
