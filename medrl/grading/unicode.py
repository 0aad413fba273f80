"""Unicode's compatibility form, in linear time."""

from __future__ import annotations

import re
import unicodedata

RUN = re.compile(r"([^\w\s]{30})[^\w\s]+")
"""Marks without a letter between them: Unicode's own limit for a text that is to be processed as a stream is 30 (UAX 15)."""


def nfkc(text: str) -> str:
    """NFKC: full-width letters become plain ones, accents join their letters.

    A run of accents is put in order in the square of its length, and a model may write nothing else, so runs of more than 30
    marks are cut to 30.
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", RUN.sub(r"\1", text))
