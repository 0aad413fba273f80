"""A model's thought, in whatever marks it is written. It is never an answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TAG = re.compile(
    r"<(?:\s{0,20}(/?)\s{0,20}(think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad|reflection|seed:think)\s{0,20}>"
    r"|\|(?:(begin)|end)_of_(thought)\|>|\|channel\|>\s{0,20}(?:(analysis)|final)\s{0,20}<\|message\|>)",
    re.IGNORECASE,
)
"""DeepSeek-R1, Qwen3 and most others; Seed; OpenThinker and Sky-T1; gpt-oss."""
_OTHER = (
    ("THINK]", re.compile(r"\[(/?)THINK\]")),  # Magistral
    ("think▷", re.compile(r"◁(/?)think▷")),  # Kimi
    ("# ", re.compile(r"^#{1,3} (?:(Final Response|最终回答)|Thinking|思考)[ \t]*$", re.MULTILINE)),  # HuatuoGPT-o1
)
"""Marks that begin with something else, each with what to look for before the pattern is tried: reading texts has to be fast."""


class Spoken(NamedTuple):
    """What a completion says beside its thoughts."""

    before: str
    """Before the last thought: a first answer, which thinking again takes back."""
    final: str | None
    """After the last thought; None where a thought is not closed. A text without any thought is final as it is."""


def spoken(text: str) -> Spoken:
    """Cut the thoughts off. A template may have opened one, so what stands before a mark that closes nothing is thought.

    A thought may quote marks: those of another name that stand inside it neither open nor close it.
    """
    before: list[str] = []
    begin, inside = 0, ""
    for start, end, name, closes in _marks(text):
        if closes and inside in ("", name):
            if not inside:
                before.clear()
            begin, inside = end, ""
        elif not closes and not inside:
            before.append(text[begin:start])
            inside = name
    return Spoken("\n".join(before), None if inside else text[begin:])


_BEGUN = re.compile(
    r"(?:<(?:\|channel\|>[^<>\n]{0,20}<?)?[^<>\n]{0,30}|\[[^\[\]\n]{0,7}|◁[^▷\n]{0,7}|^#[^\n]{0,20})\Z", re.MULTILINE
)
"""The end of a text that may become a mark."""


class Parted:
    """A completion while it is written: its words, each with whether they are thought, as soon as no mark can take them back."""

    def __init__(self) -> None:
        self.text, self._at, self._inside = "", 0, ""

    def write(self, more: str, *, last: bool = False) -> Iterator[tuple[bool, str]]:
        """What can be said of the text with these words at its end: ``(thought, words)``, marks left out; all of it after the
        last.
        """
        self.text += more
        begun = None if last else _BEGUN.search(self.text)
        settled = begun.start() if begun else len(self.text)
        for start, end, name, closes in _marks(self.text):
            if start < self._at or end > settled:
                continue
            if closes and self._inside in ("", name):
                yield from self._until(start, thought=True)
                self._at, self._inside = end, ""
            elif not closes and not self._inside:
                yield from self._until(start, thought=False)
                self._at, self._inside = end, name
        yield from self._until(settled, thought=bool(self._inside))

    def _until(self, end: int, *, thought: bool) -> Iterator[tuple[bool, str]]:
        if self._at < end:
            yield thought, self.text[self._at : end]
            self._at = end


def _marks(text: str) -> list[tuple[int, int, str, bool]]:
    """Begin, end and name of every mark of a thought, in order, and whether it closes one."""
    found = []
    for mark in _TAG.finditer(text):
        slash, name, begin, thought, analysis = mark.groups()
        opens = not slash if name else bool(begin or analysis)
        found.append((mark.start(), mark.end(), (name or thought or "channel").lower(), not opens))
    for hint, pattern in _OTHER:
        if hint in text:
            found += [(mark.start(), mark.end(), hint, bool(mark[1])) for mark in pattern.finditer(text)]
    return sorted(found)
