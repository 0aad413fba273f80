"""A model's thought, in whatever marks it is written. It is never an answer."""

from __future__ import annotations

import re
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
