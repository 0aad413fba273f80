"""A model's thought, in whatever marks it is written. It is never an answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad|reflection)"
MARKS = re.compile(
    rf"<\s{{0,20}}(?P<slash>/?)\s{{0,20}}(?P<name>{_NAMES}|seed:think)\s{{0,20}}>"
    r"|\[(?P<slash2>/?)(?P<name2>THINK)\]|◁(?P<slash3>/?)(?P<name3>think)▷"
    r"|(?P<open><\|begin_of_thought\|>|<\|channel\|>\s{0,20}analysis\s{0,20}<\|message\|>"
    r"|^\#{1,3}[ \t]{0,20}(?:Thinking|思考)[ \t]{0,20}$)"
    r"|(?P<close><\|end_of_thought\|>|<\|channel\|>\s{0,20}final\s{0,20}<\|message\|>"
    r"|^\#{1,3}[ \t]{0,20}(?:Final Response|最终回答)[ \t]{0,20}$)",
    re.IGNORECASE | re.MULTILINE,
)
"""DeepSeek-R1, Qwen3 and most others; Seed; Magistral; Kimi; OpenThinker and Sky-T1; gpt-oss; HuatuoGPT-o1."""


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
    if not any(mark in text for mark in "<[◁#"):
        return Spoken("", text)
    before: list[str] = []
    begin, inside = 0, ""
    for found in MARKS.finditer(text):
        name = (found["name"] or found["name2"] or found["name3"] or "marked").lower()
        closes = bool(found["slash"] or found["slash2"] or found["slash3"] or found["close"])
        if closes and inside in ("", name):
            if not inside:
                before.clear()
            begin, inside = found.end(), ""
        elif not closes and not inside:
            before.append(text[begin : found.start()])
            inside = name
    return Spoken("\n".join(before), None if inside else text[begin:])
