"""Examples of every task with what the model wrote, taken by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from markupsafe import Markup

from medrl.config.schema import Run
from medrl.evaluation import preferences
from medrl.report import html
from medrl.report.kept_texts import Answers, Line

SAMPLES = 4
"""Answers shown of each task."""

TEXT_CHARS, PROMPT_CHARS, GOLD_CHARS = 2500, 5000, 400
"""What is shown of a completion, of a whole prompt and of a gold; the rest is counted."""

KINDS = ("gained", "lost", "unanswered", "ungraded", "wrong", "right")
"""What became of an answer, in the order in which samples are taken; unanswered is unparsed or cut off."""


def samples(asked: Mapping[str, Answers], run: Run) -> Markup:
    """Answers of every task, one of each kind before a second of any."""
    tasks = []
    for name, found in asked.items():
        trained = run.algo.trains and bool(found.after)
        lines = found.paired() if trained else [(line, line) for line in found.before]
        if found.protocol == "perplexity" or not lines:  # nothing was answered
            continue
        kinds = [_kind(before, after) for before, after in lines]
        generated = found.protocol == "generative"
        tasks.append({
            "name": name, "generated": generated, "trained": trained, "total": len(lines),
            "scorer": run.data_mix.tasks[name].scorer if generated else preferences.SCORERS[found.protocol],
            "counts": {_label(kind, trained): count for kind in KINDS if (count := kinds.count(kind))},
            "shown": [(_label(kinds[place], trained), *lines[place]) for place in picked(kinds)],
        })  # fmt: skip
    if not tasks:
        return Markup("")
    most = {"text": TEXT_CHARS, "gold": GOLD_CHARS}
    return html.render("samples", tasks=tasks, several=run.eval.samples, most=most, prompt=_prompt)


def _kind(before: Line, after: Line) -> str:
    was, now = before["verdict"], after["verdict"]
    if now == "right":
        return "right" if was == "right" else "gained"
    if was == "right":
        return "lost"
    return now if now in ("wrong", "ungraded") else "unanswered"


def _label(kind: str, trained: bool) -> str:
    return f"still {kind}" if trained and kind in ("wrong", "right") else kind


def picked(kinds: Sequence[str]) -> list[int]:
    """Places of the samples: the first of each kind in the order of ``KINDS``, then the second of each, and so on."""
    rows = [[place for place, found in enumerate(kinds) if found == kind][:SAMPLES] for kind in KINDS]
    return [place for turn in zip_longest(*rows) for place in turn if place is not None][:SAMPLES]


def _prompt(prompt: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """Role and content of the messages of a prompt, and how much of each is shown: they are cut together."""
    room = PROMPT_CHARS
    for message in prompt:
        content = str(message["content"])
        yield message["role"], content, room
        room = max(0, room - len(content))
