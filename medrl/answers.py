"""Model text -> right shape of answer, or unparsed. The only answer extraction there is.

Rewards, evaluation and pair making all read answers here, so that what is trained is what is measured.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Format = Literal["xml", "think"]
"""``xml``: ``<reasoning>`` then ``<answer>`` (S0). ``think``: ``<think>`` then ``<answer>`` (R1, X-R1)."""

REASONING_TAG: dict[Format, str] = {"xml": "reasoning", "think": "think"}


def tags(form: Format) -> tuple[str, str, str, str]:
    """The four tags of a format, in the order in which a completion writes them."""
    tag = REASONING_TAG[form]
    return f"<{tag}>", f"</{tag}>", "<answer>", "</answer>"


class Answer(NamedTuple):
    """What a completion answers, or why it answers nothing."""

    outcome: Literal["answered", "unparsed", "truncated"]
    text: str
    """The words between the answer tags, stripped; empty unless answered."""


def layout(reasoning: str, answer: str, form: Format) -> str:
    """A completion exactly as the format asks for it: each tag on a line of its own."""
    tag = REASONING_TAG[form]
    return f"<{tag}>\n{reasoning}\n</{tag}>\n<answer>\n{answer}\n</answer>\n"


def extract(text: str, form: Format, *, finished: bool = True) -> Answer:
    """The answer of one completion.

    The answer is what stands between one ``<answer>`` and one ``</answer>`` after the reasoning has closed. Answers
    repeated, left empty, or standing only inside the reasoning are unparsed: nothing is guessed.

    Args:
        text: The completion, without the prompt and without special tokens.
        form: The format that the prompt asked for.
        finished: Whether the model ended the completion itself; false where the token limit cut it.
    """
    missing = Answer("unparsed" if finished else "truncated", "")
    opening, closing, *marks = tags(form)
    if text.count(closing) > 1:
        return missing
    # R1's template opens the reasoning in the prompt and a model may skip it altogether: only a closing tag matters.
    rest = text.partition(closing)[2] if closing in text else text
    if opening in rest or any(rest.count(mark) != 1 for mark in marks):  # reasoning never closed, or begun again
        return missing
    inner, closed, _ = rest.partition("<answer>")[2].partition("</answer>")
    answer = inner.strip()
    return Answer("answered", answer) if closed and answer else missing
