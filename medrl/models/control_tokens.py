"""Tokens that a chat template writes and nobody's words do: ``<|im_end|>`` in a row is text about a token, and ends no turn."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from medrl.errors import UserError
from medrl.models.word_counts import WordCounts

TEXT = "\ufdd0{}\ufdd1"
"""Stands for a control token that words spell, by its position, while they go through a chat template. Unicode promises that its
noncharacters stand in no text."""
TOKEN = "\ufdd2{}\ufdd3"
"""Name of a control token for the tokenizer that knows it by no other."""
THOUGHT = ("<think>", "</think>")
"""What answers do write themselves, even where a tokenizer counts it among its control tokens."""


class ControlTokens:
    """The control tokens of one tokenizer: its special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        self.tokens = sorted(added - set(THOUGHT), key=lambda token: (-len(token), token))  # the longest match counts
        self._any = re.compile("|".join(map(re.escape, self.tokens)) or "(?!)")

    def hide(self, text: str) -> str:
        """Words with stand-ins for the control tokens that they spell."""
        return self._any.sub(lambda found: TEXT.format(self.tokens.index(found[0])), text)

    def show(self, text: str) -> str:
        """The words again."""
        return re.sub(TEXT.format(r"(\d+)"), lambda found: self.tokens[int(found[1])], text)

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text: stand-ins as the words that they stand for, control tokens as tokens. Raises `UserError`
        where there is a stand-in, and the tokenizer is written in Python and finds control tokens anywhere.
        """
        if self.show(text) == text:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        tokenizer, known = self._blind
        named = self._any.sub(lambda found: TOKEN.format(self.tokens.index(found[0])), text)
        return [known.get(token, token) for token in tokenizer.encode(self.show(named), add_special_tokens=False).ids]

    def counts(self, texts: Sequence[str], most: int) -> list[int]:
        """How many tokens `ids` makes of each text, where they are more than ``most``; else a number that is not."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return [len(self.ids(text)) for text in texts]
        backend.no_truncation()  # as the tokenizer does itself when it is called without options
        backend.no_padding()
        backend.encode_special_tokens = self.tokenizer.split_special_tokens
        plain = [text for text in texts if self.show(text) == text]
        counted = dict(zip(plain, self._words.of(plain, most), strict=True))
        return [counted[text] if text in counted else len(self.ids(text)) for text in texts]

    @cached_property
    def _words(self) -> WordCounts:
        return WordCounts(self.tokenizer.backend_tokenizer)

    @cached_property
    def _blind(self) -> tuple[Any, dict[int, int]]:
        """A tokenizer that knows control tokens by their `TOKEN` names alone, and the ids of its added tokens in this one.

        ``split_special_tokens`` would split those that the template writes, too; and to tokenize a text in pieces is to let
        those tokenizers write a space before each that write one before a text.
        """
        from tokenizers import Tokenizer

        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(
                f"A row spells one of the control tokens {', '.join(sorted(self.tokens))}, which {type(self.tokenizer).__name__} "
                "cannot read as text; take such rows out, or choose a model with a fast tokenizer (tokenizer.json)."
            )
        written = json.loads(backend.to_str())
        ids = {}
        for token in written["added_tokens"]:
            if token["content"] in self.tokens:
                token["content"] = TOKEN.format(self.tokens.index(token["content"]))
            ids[token["content"]] = token["id"]
        blind: Any = Tokenizer.from_str(json.dumps(written))
        return blind, {blind.token_to_id(content): token for content, token in ids.items()}
