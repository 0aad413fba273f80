"""Does an export answer as the run did? Held-out rows that the run has answered are asked again, and the answers compared.

Texts and verdicts are what a user sees, and many a change of the weights leaves them alone. So likelihoods are compared, too: how
likely the export finds the very texts that the run wrote, in nats a token, beside how likely the run's own model finds them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from medrl.config.schema import Run
from medrl.data.example import Example
from medrl.evaluation import evaluate
from medrl.evaluation.protocols import evaluated_tasks, generated_tasks
from medrl.files import read_jsonl
from medrl.table.table import Column, Table

Line = Mapping[str, Any]

ANOTHER_MODEL = 0.1
"""Nats a token: far above what rounding to 16 or 8 bits has moved, and below what mistakes move (docs/decisions/0036)."""
UNTRAINED = 0.9
"""Of the distance of the model before training, over all tasks: an export as far away holds nothing of what was trained."""
THE_RUN = "the run, here"
"""The run's own model, asked again on this machine: what device and libraries alone change."""
BEFORE = "before training"
"""The model before training, which gives no texts again: how far training has moved the likelihoods."""


@dataclass(frozen=True)
class Questions:
    """Held-out rows of a run and what its trained model has answered."""

    run: Run
    examples: Mapping[str, Sequence[Example]]
    """All held-out examples of each task."""
    lines: Mapping[str, Mapping[int, Line]]
    """Of each task the drawn lines of its result file, by their position in it."""
    total: Mapping[str, int]
    """Lines of each file."""


class Answers(NamedTuple):
    """What one model gives to the `Questions`."""

    lines: Mapping[str, Mapping[int, Line]]
    nats: Mapping[str, Mapping[int, float]]
    """Of the text that the run wrote, or that a row holds: negative log-likelihood a token."""


class Agreement(NamedTuple):
    """Of one export and task."""

    asked: int
    texts: int | None
    """Answers that are the same, character for character; None where nothing is generated."""
    verdicts: int | None
    """Answers with the same verdict on both readings."""
    right: int | None
    """Right answers of the run, in the asked shape."""
    right_now: int | None
    """Those of the export."""
    nats: float | None
    """Mean distance, over the texts, of the negative log-likelihood a token from that of the run's own model; None where the
    engine says no likelihoods."""


def draw(run: Run, folder: Path, rows: int, seed: int) -> Questions:
    """So many lines of each task's results of a finished run, drawn with ``seed``; all where there are fewer."""
    examples, lines, total, rng = {}, {}, {}, random.Random(seed)
    for name, file in evaluate.result_files(run, "trained").items():
        answered = read_jsonl(folder / "eval" / file)
        places = sorted(rng.sample(range(len(answered)), min(rows, len(answered))))
        examples[name], total[name] = evaluate.held_out(run, name), len(answered)
        lines[name] = {place: answered[place] for place in places}
    return Questions(run, examples, lines, total)


def ask(questions: Questions, model: Any, tokenizer: Any, *, texts: bool = True) -> Answers:
    """Put the questions to a model as the run's evaluation did; without ``texts`` it answers none in words, and only says how
    likely it finds the run's answers.
    """
    lines: dict[str, Mapping[int, Line]] = {}
    nats: dict[str, Mapping[int, float]] = {}
    in_words = generated_tasks(questions.run)
    for name in evaluated_tasks(questions.run):
        if texts or name not in in_words:
            done = set(range(questions.total[name])) - set(questions.lines[name])
            batches = evaluate.missing_lines(questions.run, name, questions.examples[name], (model, tokenizer), done)
            lines[name] = {place: line for batch in batches for place, line in batch.items()}
        if name in in_words:
            nats[name] = _of_texts(questions, name, model, tokenizer)
        else:
            nats[name] = {place: _of_row(line) for place, line in lines[name].items()}
    return Answers(lines, nats)


def ask_engine(questions: Questions, engine: Any) -> Answers:
    """Put the questions that are answered in words to another engine than transformers; it says no likelihoods."""
    lines: dict[str, Mapping[int, Line]] = {}
    for name in generated_tasks(questions.run):
        done, task = set(range(questions.total[name])) - set(questions.lines[name]), questions.run.data_mix.tasks[name]
        batches = evaluate.completed(questions.run, task, questions.examples[name], engine, done)
        lines[name] = {place: line for batch in batches for place, line in batch.items()}
    return Answers(lines, {})


def _of_texts(questions: Questions, name: str, model: Any, tokenizer: Any) -> dict[int, float]:
    """What the model makes of the run's own answers."""
    from medrl.models.generation import fitting_tokens
    from medrl.models.likelihood import NegativeLogLikelihood, Passage
    from medrl.models.tokenization import Rendering

    rendering, asked = Rendering(tokenizer), [place for place, line in questions.lines[name].items() if line["text"]]
    passages = []
    for line in (questions.lines[name][place] for place in asked):
        tokens = rendering.tokens(line["prompt"], line["text"], finished=line["finished"])
        passages.append(Passage(tokens.ids, len(tokens.prompt)))
    run = questions.run
    measure = NegativeLogLikelihood(model, run.model.context_tokens, run.eval.batch_tokens or fitting_tokens(model))
    found = {place: sums[0] for batch in measure([[passage] for passage in passages]) for place, sums in batch.items()}
    return {place: found[at] / passages[at].tokens for at, place in enumerate(asked)}


def _of_row(line: Line) -> float:
    """A document's, or that of the better one of two answers."""
    return float(line["nll"] / line["tokens"] if "nll" in line else -line["score_chosen"])


def compare(questions: Questions, run: Answers, export: Answers) -> dict[str, Agreement]:
    """Agreement by task of what the export and the run's own model give here and now, beside the answers that the run has kept;
    tasks that the export was not asked are left out.
    """
    found = {}
    for name in (*export.nats, *(name for name in export.lines if name not in export.nats)):
        nats = None
        if name in export.nats:
            distances = [abs(export.nats[name][place] - own) for place, own in run.nats[name].items()]
            nats = fmean(distances) if distances else 0.0
        if name not in generated_tasks(questions.run) or name not in export.lines:
            found[name] = Agreement(len(questions.lines[name]), None, None, None, None, nats)
            continue
        pairs = [(line, export.lines[name][place]) for place, line in questions.lines[name].items()]
        found[name] = Agreement(
            len(pairs),
            sum(old["text"] == new["text"] for old, new in pairs),
            sum((old["verdict"], old["readable"]) == (new["verdict"], new["readable"]) for old, new in pairs),
            sum(old["verdict"] == "right" for old, _ in pairs),
            sum(new["verdict"] == "right" for _, new in pairs),
            nats,
        )
    return found


def otherwise(export: Mapping[str, Agreement], before: Mapping[str, Agreement]) -> str:
    """Why an export, by its agreement by task, is another model than the run has measured; empty where it is the same to
    rounding. ``before`` is the agreement of the model before training.
    """
    far = {name: each.nats for name, each in export.items() if each.nats is not None}
    if other := [f"{nats:.2f} nats a token on {name}" for name, nats in far.items() if not nats <= ANOTHER_MODEL]:  # or no number
        return f"it is {', '.join(other)} away from it, more than rounding moves ({ANOTHER_MODEL})"
    untrained = fmean([before[name].nats or 0.0 for name in far])
    if (mean := fmean(far.values())) >= UNTRAINED * untrained:
        return f"it is {_nats(mean)} nats a token away from it, and the model before training {_nats(untrained)}"
    return ""


def table(agreement: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """How far each export agrees with the run: fields of `Agreement` by export and task."""
    right = ("asked", "same text", "same verdict", "right in the run", "right now", "nats a token")
    columns = [Column("task"), Column("answered by"), *(Column(name, right=True) for name in right)]
    rows = [
        [task, name, each["asked"], *(each[key] for key in ("texts", "verdicts", "right", "right_now")), _nats(each["nats"])]
        for task in next(iter(agreement.values()))
        for name, found in agreement.items()
        if (each := found.get(task))
    ]
    notes = [
        "nats a token: mean distance from the run's own model in the negative log-likelihood of the run's texts",
        f"{THE_RUN}: what device and libraries alone have changed since it was measured",
        f"{BEFORE}: how far training has moved the model; an export has to be nearer",
    ]
    return Table(columns, rows, groups=1, notes={"Agreement": notes})


def _nats(nats: float | None) -> str:
    return "" if nats is None else f"{nats:.1e}" if 0 < nats < 0.001 else f"{nats:.3f}"
