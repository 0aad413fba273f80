"""Model text -> right shape of answer, or unparsed. The only answer extraction there is.

Rewards, evaluation and pair making all read answers here, so that what is trained is what is measured.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Literal, NamedTuple

Format = Literal["xml", "think", "r1", "boxed", "plain"]
"""Shape of a completion.

``xml``: ``<reasoning>`` then ``<answer>`` (S0). ``think``: ``<think>`` then ``<answer>`` (X-R1). ``r1``: ``<think>``, then the
answer with nothing around it (DeepSeek-R1, S1). ``boxed``: free reasoning, then ``\\boxed{answer}``. ``plain``: the answer
alone (S3's JSON).
"""

REASONING_TAG: dict[Format, str] = {"xml": "reasoning", "think": "think", "r1": "think"}
TAGGED: tuple[Format, ...] = ("xml", "think")
"""Formats whose answer stands between tags of its own."""
BOXED = re.compile(r"\\boxed\s*\{")


def tags(form: Format) -> tuple[str, ...]:
    """The tags of a format, in the order in which a completion writes them; none for free formats."""
    reasoning = (f"<{REASONING_TAG[form]}>", f"</{REASONING_TAG[form]}>") if form in REASONING_TAG else ()
    return (*reasoning, "<answer>", "</answer>") if form in TAGGED else reasoning


class Answer(NamedTuple):
    """What a completion answers, or why it answers nothing."""

    outcome: Literal["answered", "unparsed", "truncated"]
    text: str
    """The words of the answer, stripped; empty unless answered."""


def layout(reasoning: str, answer: str, form: Format) -> str:
    """A completion exactly as the format asks for it: each tag on a line of its own."""
    if form == "plain":
        return answer
    if form == "boxed":
        return f"{reasoning}\n\\boxed{{{answer}}}\n"
    tag = REASONING_TAG[form]
    thought = f"<{tag}>\n{reasoning}\n</{tag}>\n"
    return f"{thought}{answer}\n" if form == "r1" else f"{thought}<answer>\n{answer}\n</answer>\n"


def extract(text: str, form: Format, *, finished: bool = True) -> Answer:
    """The answer of one completion.

    Answers repeated, left empty, or standing only inside the reasoning are unparsed: nothing is guessed.

    Args:
        text: The completion without special tokens, and with what the chat template had opened of it (R1's ``<think>``).
        form: The format that the prompt asked for.
        finished: Whether the model ended the completion itself; false where the token limit cut it.
    """
    answer = _answer(text, form, finished=finished)
    if not answer:
        return Answer("unparsed" if finished else "truncated", "")
    return Answer("answered", answer)


def _answer(text: str, form: Format, *, finished: bool) -> str:
    if form in TAGGED:
        return _tagged(text, form)
    if not finished:  # without a closing mark, a cut answer cannot be told from a whole one
        return ""
    if form == "boxed":
        return _boxed(text)
    if form == "plain":
        return text.strip()
    opening, closing = tags(form)
    before, closed, rest = text.partition(closing)
    if not closed or closing in rest or opening in rest or before.count(opening) > 1:
        return ""
    return _boxed(rest) if BOXED.search(rest) else rest.strip()


def _tagged(text: str, form: Format) -> str:
    """What stands between one ``<answer>`` and one ``</answer>`` after the reasoning has closed."""
    opening, closing, *marks = tags(form)
    if text.count(closing) > 1:
        return ""
    # A model may skip the reasoning altogether: only a closing tag matters.
    rest = text.partition(closing)[2] if closing in text else text
    if opening in rest or any(rest.count(mark) != 1 for mark in marks):  # reasoning never closed, or begun again
        return ""
    inner, closed, _ = rest.partition("<answer>")[2].partition("</answer>")
    return inner.strip() if closed else ""


def _boxed(text: str) -> str:
    r"""The inside of the only ``\boxed{...}``, braces matched; empty where there is none, several, or no end."""
    found = list(islice(BOXED.finditer(text), 2))
    if len(found) != 1:
        return ""
    start, depth = found[0].end(), 1
    for mark in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return text[start : start + mark.start()].strip()
    return ""


def opening(tokenizer: object) -> str:
    """What the chat template itself writes of a completion: R1's begins every one with ``<think>``; mostly nothing."""
    messages = [{"role": "user", "content": "."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)  # type: ignore[attr-defined]
    found = re.search(r"<think>\s*$", prompt)
    return found[0] if found else ""
