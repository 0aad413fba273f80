"""Example -> chat messages: the same words in training and in evaluation."""

from __future__ import annotations

from medrl.answers import REASONING_TAG, Format
from medrl.tasks.base import Example, Task

Messages = list[dict[str, str]]
"""A conversation as chat templates read it: ``[{"role": ..., "content": ...}]``."""


def system(task: Task, form: Format) -> str:
    """What to do and in which shape to answer."""
    tag = REASONING_TAG[form]
    return (
        f"{task.instruction}\n"
        f"Think first, then answer. Write in this shape:\n"
        f"<{tag}>\nyour reasoning\n</{tag}>\n<answer>\n{task.answer_shape}\n</answer>"
    )


def question(example: Example) -> str:
    """The example as the user states it: context, question, choices."""
    parts = [example.context, example.question]
    parts += ["\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCDEFGHIJ", example.choices, strict=False))]
    return "\n\n".join(part for part in parts if part)


def messages(example: Example, task: Task, form: Format) -> Messages:
    """The prompt of one example."""
    return [{"role": "system", "content": system(task, form)}, {"role": "user", "content": question(example)}]
