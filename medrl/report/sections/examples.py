"""Examples of every task with what the model wrote, taken by rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.evaluation import evaluate, preferences, protocols
from medrl.files import read_jsonl
from medrl.report import html

SAMPLES = 4
"""Answers shown of each task."""

TEXT_CHARS, PROMPT_CHARS, GOLD_CHARS = 2500, 5000, 400
"""What is shown of a completion, of a whole prompt and of a gold; the rest is counted."""

KINDS = ("gained", "lost", "unanswered", "ungraded", "wrong", "right")
"""What became of an answer, in the order in which samples are taken; unanswered is unparsed or cut off."""

Line = Mapping[str, Any]


def samples(folder: Path, tree: Tree, run: Run) -> Markup:
    """Answers of every task, one of each kind before a second of any.

    Args:
        folder: ``eval/`` of the run.
        tree: The resolved configuration.
        run: The same, built.
    """
    base_files = evaluate.result_files(run, "base")
    trained_files = evaluate.result_files(run, "trained") if run.algo.trains else base_files
    tasks = []
    for name, file in base_files.items():
        protocol = protocols.protocol(run, name)
        if protocol == "perplexity":  # nothing was answered
            continue
        lines = paired(read_jsonl(folder / file), read_jsonl(folder / trained_files[name]))
        if not lines:
            continue
        kinds = [_kind(before, after) for before, after in lines]
        tasks.append({
            "name": name, "generated": protocol == "generative", "total": len(lines),
            "scorer": run.data_mix.tasks[name].scorer if protocol == "generative" else preferences.SCORERS[protocol],
            "counts": {_label(kind, run.algo.trains): count for kind in KINDS if (count := kinds.count(kind))},
            "shown": [(_label(kinds[place], run.algo.trains), *lines[place]) for place in picked(kinds)],
        })  # fmt: skip
    if not tasks:
        return Markup("")
    most = {"text": TEXT_CHARS, "gold": GOLD_CHARS}
    return html.render("samples", tasks=tasks, trained=run.algo.trains, several=run.eval.samples, most=most, prompt=_prompt)


def paired(before: Sequence[Line], after: Sequence[Line]) -> list[tuple[Line, Line]]:
    """The same sample of the same example before and after training; rows that share an id pair in their order."""
    waiting: dict[tuple[str, int], list[Line]] = {}
    for line in reversed(after):
        waiting.setdefault((line["id"], line["sample"]), []).append(line)
    return [(line, found.pop()) for line in before if (found := waiting.get((line["id"], line["sample"])))]


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
