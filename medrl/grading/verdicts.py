"""What a completion is worth, in two readings: strict (in the shape that was asked for) and readable (as a careful person reads).

Both use the same type of answers. Their difference is what the shape costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from medrl.data.example import Example
from medrl.grading.answer_types.base import NOTHING, AnswerType, Reading
from medrl.grading.answers import ANSWER_TAG, BOX, Format, boxed, find, tagged
from medrl.grading.peeling import MOST_CHARACTERS, bare

Outcome = Literal["right", "wrong", "unparsed", "truncated", "ungraded"]
"""``unparsed``: no answer is chosen, or not where it should stand. ``truncated``: the token limit cut it. ``ungraded``: a judge
abstained; accuracy counts it as not right and says how many there are."""


class Attempt(NamedTuple):
    """A completion to be graded."""

    text: str
    example: Example
    finished: bool = True
    """Whether the model ended it itself."""


class Verdict(NamedTuple):
    """What a completion is worth. Accuracy counts ``right``; the correctness reward pays ``credit``."""

    outcome: Outcome
    credit: float
    """1 right, 0 nothing; between them what the type of answers gives half for, a rank below the first, or part of a rubric's
    points, which may be below 0."""
    answer: str
    """The words that were read."""
    reading: Reading = NOTHING
    """What they say, as the type reads them."""

    @property
    def value(self) -> str | None:
        """The canonical answer, for votes; None where nothing is chosen."""
        return self.reading.value or None


def strict(attempts: Sequence[Attempt], answers: AnswerType, form: Format) -> list[Verdict]:
    """Grade completions in the shape that was asked for. Places that say different things say nothing."""
    places = [find(attempt.text, form, finished=attempt.finished).places for attempt in attempts]
    return [_verdict(attempt, found) for attempt, found in zip(attempts, _readings(places, attempts, answers), strict=True)]


def readable(attempts: Sequence[Attempt], answers: AnswerType, form: Format, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Grade completions as a careful person reads them: what `strict` found counts, and the gold amid other words is right.

    Where the shape is missing, the final text is searched, never the thought: answer tags, boxes, a stated answer (``The
    answer is C``), a short text that chooses one answer, its first or last line. What says two things chooses none: no guess
    is made. ``verdicts`` is what `strict` says of the same attempts.
    """
    found = list(verdicts)
    missing = {
        at: _candidates(attempt, form, answers)
        for at, (attempt, verdict) in enumerate(zip(attempts, verdicts, strict=True))
        if verdict.outcome == "unparsed" or _amid_reasons(verdict, attempt, form)
    }
    while missing:
        tried = {at: next(candidates, None) for at, candidates in missing.items()}
        asked = {at: texts for at, texts in tried.items() if texts is not None}
        missing = {at: missing[at] for at in asked}
        readings = _readings(list(asked.values()), [attempts[at] for at in asked], answers, silent=True)
        for at, (text, reading) in zip(asked, readings, strict=True):
            if reading.value:
                found[at] = _verdict(attempts[at], (text, reading))
            if reading.value or reading is APART:
                del missing[at]
    return [_generous(verdict, answers) for verdict in found]


APART = Reading(None, alone=False)
"""Places that say different things."""


def _readings(
    places: Sequence[Sequence[str]], attempts: Sequence[Attempt], answers: AnswerType, *, silent: bool = False
) -> list[tuple[str, Reading]]:
    """For each attempt the first of its places and what all of them say. ``silent`` places may stand beside one that speaks."""
    flat = [(at, place) for at, texts in enumerate(places) for place in dict.fromkeys(texts)]
    read = answers.read_all([place for _, place in flat], [attempts[at].example for at, _ in flat])
    found: list[tuple[str, Reading]] = [("", NOTHING)] * len(places)
    begun: set[int] = set()
    for (at, place), reading in zip(flat, read, strict=True):
        if silent and not reading.value:
            continue
        if at not in begun:
            found[at] = (place, reading)
            begun.add(at)
        elif reading.value != found[at][1].value:
            found[at] = ("", APART)
    return found


def _verdict(attempt: Attempt, found: tuple[str, Reading]) -> Verdict:
    text, reading = found
    if reading.value is None:
        return Verdict("unparsed" if text or attempt.finished else "truncated", 0.0, text, reading)
    if reading.credit is None:
        return Verdict("ungraded", 0.0, text, reading)
    return Verdict("right" if reading.credit == 1 else "wrong", reading.credit, text, reading)


def _amid_reasons(verdict: Verdict, attempt: Attempt, form: Format) -> bool:
    """Whether a whole final text was read and chooses nothing: ``r1`` and ``plain`` mark no answer in it, so that its reasons may
    name other options beside a stated one.
    """
    return verdict.reading.value == "" and verdict.answer == find(attempt.text, form, finished=attempt.finished).final.strip()


def _generous(verdict: Verdict, answers: AnswerType) -> Verdict:
    """Half credit stands for the gold amid other words: a careful reader finds it."""
    if verdict.outcome == "wrong" and verdict.credit > 0 and answers.halves:
        return verdict._replace(outcome="right", credit=1.0)
    return verdict


MOST_SHORT = 300
"""Characters of a final text that is read whole."""
MOST_LINES = 400
_STATED = re.compile(
    r"(?:\banswer\b(?:\s+(?:choice|option|here|to\s+(?:the|this)\s+question))*\s*(?:is|would\s+be|should\s+be|:|=)+"
    r"|\b(?:correct|best|right|final)\s+(?:choice|option|decision|diagnosis|letter|statement)\s*(?:is|:|=)+|####|(?:答案|正确选项)\s*(?:应该|应)?(?:是|为|:)+)"
    r"\s{0,20}",
    re.IGNORECASE,
)
"""What states an answer, up to the answer itself, which stands on the line below where this ends in a colon."""
_RESULT = re.compile(r"(?:\b(?:is|are|was|were|total(?:s|ing)?|make[sd]?|have|has)\b|[=:])([^=:]{1,80})\Z", re.IGNORECASE)
"""What a sentence ends in: ``So the total that Ann has paid by the end of the year is $252.``"""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|(?<=\w\w[.!?])\s+")


def _candidates(attempt: Attempt, form: Format, answers: AnswerType) -> Iterator[Sequence[str]]:
    """Where a careful reader looks for the answer of a final text, one place after the other; texts together have to agree."""
    final = find(attempt.text, form, finished=attempt.finished).final.strip()
    if not final:
        return
    for looked_for, read in ((ANSWER_TAG, tagged), (BOX, boxed)):
        if looked_for.search(final):
            if texts := read(final):
                yield texts
            return  # two that differ, or one that is not closed: nothing else decides between them
    lines = [line for line in final.splitlines()[-MOST_LINES:] if line.strip()]
    _, *after = _STATED.split("\n".join(bare(line[-MOST_CHARACTERS:]) for line in lines))
    stated = [text.split("\n")[0][:MOST_SHORT] for text in after]  # to the end of the line, or to what is stated next
    if stated:
        yield stated
        yield [_SENTENCE.split(text)[0] for text in stated]
        return
    if answers.judged or len(final) <= MOST_SHORT:
        yield [final]
    if not answers.judged:
        first = [] if answers.numeric else lines[:1]  # a calculation begins with a number, too
        yield [line for line in dict.fromkeys((*first, lines[-1])) if len(line) <= MOST_SHORT]
        last = _SENTENCE.split(lines[-1])[-1]
        yield [last]
        if answers.numeric and (result := _RESULT.search(last)):
            yield [result[1]]
