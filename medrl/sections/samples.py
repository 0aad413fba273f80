"""Examples of every task with what the model wrote, taken by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medrl import evaluate, preferences
from medrl.charts import escaped
from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.files import read_jsonl
from medrl.sections.base import text
from medrl.wording import STRICT

SAMPLES = 4
"""Answers shown of each task."""

TEXT_CHARS, PROMPT_CHARS, GOLD_CHARS = 2500, 5000, 400
"""What is shown of a completion, of a whole prompt and of a gold; the rest is counted."""

KINDS = ("gained", "lost", "unanswered", "ungraded", "wrong", "right")
"""What became of an answer, in the order in which samples are taken; unanswered is unparsed or cut off."""

Line = Mapping[str, Any]


def samples(folder: Path, tree: Tree, run: Run) -> str:
    """Answers of every task, one of each kind before a second of any.

    Args:
        folder: ``eval/`` of the run.
        tree: The resolved configuration.
        run: The same, built.
    """
    base_files = evaluate.result_files(tree, run, "base")
    trained_files = evaluate.result_files(tree, run, "trained") if run.algo.trains else base_files
    parts = []
    for name, file in base_files.items():
        protocol = evaluate.protocol(run, name)
        if protocol == "perplexity":  # nothing was answered
            continue
        lines = paired(read_jsonl(folder / file), read_jsonl(folder / trained_files[name]))
        if not lines:
            continue
        kinds = [_kind(before, after) for before, after in lines]
        said = ", ".join(f"{count} {_label(kind, run.algo.trains)}" for kind in KINDS if (count := kinds.count(kind)))
        sample = _sample if protocol == "generative" else _pair
        shown = "\n".join(sample(*lines[place], kinds[place], run) for place in picked(kinds))
        scorer = run.data_mix.tasks[name].scorer if protocol == "generative" else preferences.SCORERS[protocol]
        graded = "" if scorer == STRICT else f" <span>{escaped(scorer)}</span>"
        counted = f"Of {len(lines)} answers: " if run.eval.samples > 1 and protocol == "generative" else ""
        parts.append(f"<h3>{escaped(name)}{graded}</h3><p>{counted}{said}.</p>\n{shown}")
    rule = "the first answer of each kind in the order of the test set, then the second of each, and so on"
    return "\n".join([f"<p>Taken by rule, not by hand: {rule}.</p>", *parts]) if parts else ""


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


def _sample(before: Line, after: Line, kind: str, run: Run) -> str:
    trained, several = run.algo.trains, run.eval.samples
    texts = [("Before training", before), ("After training", after)] if trained else [("Model", after)]
    columns = "".join(
        f'<div><h4>{when}: <b>{_verdict(line)}</b>, {line["tokens"]} tokens</h4><pre dir="auto">'
        f"{text(line['text'], TEXT_CHARS)}</pre></div>"
        for when, line in texts
    )
    gold = text(after["gold"], GOLD_CHARS)
    which = f", answer {after['sample'] + 1} of {several}" if several > 1 else ""
    return (
        f'<article class="sample"><p><span class="kind">{_label(kind, trained).capitalize()}</span> · '
        f"example <code>{text(after['id'], 80)}</code>{which} · gold <strong><bdi>{gold}</bdi></strong></p>"
        f"<details><summary>Prompt</summary>{_prompt(after['prompt'])}</details>"
        f'<div class="texts">{columns}</div></article>'
    )


def _pair(before: Line, after: Line, kind: str, run: Run) -> str:
    """Both answers side by side, with what the models made of each."""
    trained = run.algo.trains

    def scored(which: str) -> str:
        scores = [f"{line[which]:.3f}".replace("-", "\N{MINUS SIGN}") for line in ((before, after) if trained else (after,))]
        return " before, ".join(scores) + (" after training" if trained else "")

    columns = "".join(
        f'<div><h4>{title}: <b>{scored(f"score_{which}")}</b></h4><pre dir="auto">{text(after[which], TEXT_CHARS)}</pre></div>'
        for title, which in (("Better answer", "chosen"), ("Worse answer", "rejected"))
    )
    return (
        f'<article class="sample"><p><span class="kind">{_label(kind, trained).capitalize()}</span> · '
        f"pair <code>{text(after['id'], 80)}</code></p>"
        f"<details><summary>Prompt</summary>{_prompt(after['prompt'])}</details>"
        f'<div class="texts">{columns}</div></article>'
    )


def _verdict(line: Line) -> str:
    partly = f", credit {line['credit']:.2f}" if 0 < line["credit"] < 1 else ""
    return f"{escaped(line['verdict'])}{partly}"


def _prompt(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The messages of a prompt, cut together."""
    room, parts = PROMPT_CHARS, []
    for message in prompt:
        content = str(message["content"])
        parts.append(f'<h4>{escaped(message["role"])}</h4><pre dir="auto">{text(content, room)}</pre>')
        room = max(0, room - len(content))
    return "".join(parts)
