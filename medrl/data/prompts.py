"""Example -> chat messages: the same words in training and in evaluation."""

from __future__ import annotations

from medrl.data.example import Example
from medrl.files import packaged
from medrl.grading.answers import REASONING_TAG
from medrl.tasks.base import Language, Task

Messages = list[dict[str, str]]
"""A conversation as chat templates read it: ``[{"role": ..., "content": ...}]``."""

FRAMES: dict[Language, dict[str, str]] = packaged(__file__, "prompts.json")
"""How each format is asked for, by language."""


def system(task: Task) -> str:
    """What to do and in which shape to answer."""
    frame = FRAMES[task.language]["tagged" if task.format in ("xml", "think") else task.format]
    return f"{task.instruction}\n" + frame.format(tag=REASONING_TAG.get(task.format, ""), shape=task.answer_format)


def messages(example: Example, task: Task) -> Messages:
    """The prompt of one example: what is asked for, demonstrations as turns, earlier turns, the question.

    A task without an instruction (free conversation) adds no system message of its own; rows may bring one.
    """
    said = example.system or (system(task) if task.instruction else "")
    head = [{"role": "system", "content": said}] if said else []
    shown = [turn for question, answer in example.shots for turn in (("user", question), ("assistant", answer))]
    turns = [{"role": role, "content": text} for role, text in (*shown, *example.turns)]
    return [*head, *turns, {"role": "user", "content": task.ask(example)}]
