"""Shapes of completions: how each is asked for, and where the answer of one stands. The only answer extraction there is.

Rewards, evaluation and pair making all read answers here, so that what is trained is what is measured. An answer is read in
four steps: the thought is cut off; the format says where the answer stands; layout is peeled; the type of the answer reads what
is left. The first two are here, the others in `peeling` and `answer_types`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from medrl.grading.thoughts import spoken
from medrl.models.chat_templates import rendered

Format = Literal["xml", "think", "r1", "boxed", "plain"]
"""Shape of a completion.

``xml``: ``<reasoning>`` then ``<answer>`` (S0). ``think``: ``<think>`` then ``<answer>`` (X-R1). ``r1``: ``<think>``, then the
answer with nothing around it (DeepSeek-R1, S1). ``boxed``: free reasoning, then ``\\boxed{answer}``. ``plain``: the answer
alone (S3's JSON).
"""

REASONING_TAG: dict[Format, str] = {"xml": "reasoning", "think": "think", "r1": "think"}
TAGGED: tuple[Format, ...] = ("xml", "think")
"""Formats whose answer stands between tags of its own."""
BOX = re.compile(r"\\(?:boxed|fbox)\s{0,20}\{")
ANSWER_TAG = re.compile(r"<\s{0,20}(/?)\s{0,20}(?:final_)?answer\s{0,20}>", re.IGNORECASE)
MOST_PLACES = 100
"""Pairs of tags or boxes that are looked at. So many differ, or say nothing more than a few."""


def tags(form: Format) -> tuple[str, ...]:
    """The tags of a format, in the order in which a completion writes them; none for free formats."""
    reasoning = (f"<{REASONING_TAG[form]}>", f"</{REASONING_TAG[form]}>") if form in REASONING_TAG else ()
    return (*reasoning, "<answer>", "</answer>") if form in TAGGED else reasoning


def layout(reasoning: str, answer: str, form: Format) -> str:
    """A completion exactly as the format asks for it: each tag on a line of its own."""
    if form == "plain":
        return answer
    if form == "boxed":
        return f"{reasoning}\n\\boxed{{{answer}}}\n"
    tag = REASONING_TAG[form]
    thought = f"<{tag}>\n{reasoning}\n</{tag}>\n"
    return f"{thought}{answer}\n" if form == "r1" else f"{thought}<answer>\n{answer}\n</answer>\n"


class Found(NamedTuple):
    """Where a completion answers."""

    places: tuple[str, ...]
    """The text of each place where an answer stands, stripped. Several have to say the same; none says nothing."""
    final: str
    """All that was said after the thought; empty where a thought is not closed, or the completion was cut in its final text."""


def find(text: str, form: Format, *, finished: bool = True) -> Found:
    """Where the answer of one completion stands.

    Args:
        text: The completion without special tokens, and with what the chat template had opened of it (R1's ``<think>``).
        form: The format that the prompt asked for.
        finished: Whether the model ended the completion itself; false where the token limit cut it. An answer in its tags is
            whole all the same; in the other formats nothing marks the end of an answer, and what was cut has none.
    """
    before, final = spoken(text)
    if final is None:
        return Found((), "")
    whole = final if finished else ""
    if form in TAGGED:
        places = tagged(final)
        return Found((*tagged(before), *places) if places else (), whole)
    if not finished or (form == "r1" and len(final) == len(text)):  # r1 without its thought is not the shape that was asked for
        return Found((), whole)
    boxes = boxed(final)
    if form != "boxed" and not BOX.search(final):
        boxes = (final.strip(),) if final.strip() else ()
    return Found(boxes, whole)


def tagged(text: str) -> tuple[str, ...]:
    """What stands between pairs of answer tags; nothing where one is empty, not closed, or there are too many.

    Tags within the same tags are one pair.
    """
    found: list[str] = []
    begin: int | None = None
    for mark in ANSWER_TAG.finditer(text):
        if not mark[1]:
            begin = mark.end()
        elif begin is not None:
            found.append(text[begin : mark.start()].strip())
            begin = None
        if len(found) > MOST_PLACES:
            return ()
    return tuple(found) if begin is None and all(found) else ()


def boxed(text: str) -> tuple[str, ...]:
    r"""The insides of all ``\boxed{...}``, braces matched; nothing where one is empty, not closed, or there are too many."""
    found = list(_boxes(text))
    return tuple(found) if all(found) and len(found) <= MOST_PLACES else ()


def _boxes(text: str) -> Iterator[str]:
    """The inside of each outermost box, stripped; empty where it does not end."""
    end = 0
    for place, box in enumerate(BOX.finditer(text)):
        if box.start() < end:
            continue  # within the box before
        if place > MOST_PLACES:
            yield ""
            return
        depth = 1
        for mark in re.finditer(r"\\.|[{}]", text[box.end() :], re.DOTALL):
            depth += {"{": 1, "}": -1}.get(mark[0], 0)
            if depth == 0:
                end = box.end() + mark.end()
                yield text[box.end() : end - 1].strip()
                break
        else:
            yield ""
            return


def opening(tokenizer: object) -> str:
    """What the chat template itself writes of a completion: R1's begins every one with ``<think>``; mostly nothing."""
    messages = [{"role": "user", "content": "."}]
    prompt = rendered(tokenizer, messages, prompt=True)
    found = re.search(r"<think>\s*$", prompt)
    return found[0] if found else ""
