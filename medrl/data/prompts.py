"""Example -> chat messages: the same words in training and in evaluation."""

from __future__ import annotations

from medrl.grading.answers import REASONING_TAG
from medrl.tasks.base import Example, Language, Task

Messages = list[dict[str, str]]
"""A conversation as chat templates read it: ``[{"role": ..., "content": ...}]``."""

FRAMES: dict[Language, dict[str, str]] = {
    "en": {
        "tagged": "Think first, then answer. Write in this shape:\n"
        "<{tag}>\nyour reasoning\n</{tag}>\n<answer>\n{shape}\n</answer>",
        "r1": "Think between <think> and </think>. After it write {shape}, and nothing else.",
        "boxed": "Think step by step. End with \\boxed{{...}} around {shape}.",
        "plain": "Answer with {shape}, and nothing else.",
    },
    "zh": {
        "tagged": "先思考，再回答。请按以下格式书写：\n<{tag}>\n你的思考\n</{tag}>\n<answer>\n{shape}\n</answer>",
        "r1": "请在 <think> 与 </think> 之间思考，之后只写{shape}。",
        "boxed": "请逐步思考，最后用 \\boxed{{...}} 写出{shape}。",
        "plain": "只回答{shape}，不要写其他内容。",
    },
}


def system(task: Task) -> str:
    """What to do and in which shape to answer."""
    frame = FRAMES[task.language]["tagged" if task.format in ("xml", "think") else task.format]
    return f"{task.instruction}\n" + frame.format(tag=REASONING_TAG.get(task.format, ""), shape=task.answer_format)


def messages(example: Example, task: Task) -> Messages:
    """The prompt of one example: what is asked for, earlier turns, the question.

    A task without an instruction (free conversation) adds no system message of its own; rows may bring one.
    """
    said = example.system or (system(task) if task.instruction else "")
    head = [{"role": "system", "content": said}] if said else []
    turns = [{"role": role, "content": text} for role, text in example.turns]
    return [*head, *turns, {"role": "user", "content": task.ask(example)}]
