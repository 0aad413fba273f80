"""One question with its gold answer: the same object in training, evaluation and grading."""

from __future__ import annotations

from dataclasses import dataclass

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What choices are called, in the order in which they are shown."""


@dataclass(frozen=True)
class Example:
    """One question with its gold answer."""

    id: str
    """Unique within its task; the same from every source that holds the row."""
    task: str
    question: str
    gold: str
    """The answer that earns full marks."""
    choices: tuple[str, ...] = ()
    """Options in the order in which they are shown, without their letters."""
    accepted: tuple[str, ...] = ()
    """Other wordings of the gold that are as good."""
    limits: tuple[str, str] | None = None
    """Lowest and highest value that counts as the gold, where the answer is a number with a tolerance."""
    rubric: tuple[tuple[str, float], ...] = ()
    """What a response is judged by: ``(criterion, points)``; points below 0 are taken off."""
    context: str = ""
    rationale: str = ""
    """Reasoning that leads to the gold, where the data set has one: what supervised training imitates."""
    group: str = ""
    """Specialty, decision or subject, for results by group."""
    system: str = ""
    """A system message that the row brings; empty where the task's own is used."""
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier turns of a conversation as ``(role, text)``."""
    shots: tuple[tuple[str, str], ...] = ()
    """Demonstrations that are shown before it, as ``(question, answer)`` (`DataMix.shots`)."""
    rejected: str = ""
    """The worse answer of a preference pair."""
