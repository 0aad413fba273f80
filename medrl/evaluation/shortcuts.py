"""Shortcut floor: what a reader scores that never solves the task, fitted on a few training rows.

Four shortcuts: the options alone (which option looks like a right one), the question alone (which place, word or answer such
questions have), a bag of words (the question with its context and, where options differ, pairs of a word of the question and
a word of an option), and the answer of the nearest training question. A gain of a model that ends at such a floor may be the
shortcut. Poliak et al. 2018 (arXiv 1805.01042) call the second and first a hypothesis-only baseline.

The fitted ones are a conditional logit (McFadden 1974): each candidate answer of a row has a score, linear in hashed words, and
softmax over the candidates gives the probability of the gold. Scores are fitted through the kernel matrix of the candidates.
"""

from __future__ import annotations

import hashlib
import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from medrl.config.schema import Run
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Source
from medrl.data.units import units
from medrl.grading.answer_types.letters import Letters
from medrl.grading.answer_types.ranking import listed
from medrl.tasks.base import Task

ROWS = 200
"""Training rows that a shortcut is fitted on."""
PENALTY = 1e-4
"""Weight of the squared norm of the scores' coefficients for each row, where the mean kernel of a candidate with itself is 1."""
BUCKETS = 2**18
"""Words are hashed to so many columns."""
BLOCK = 250
"""Examples that are scored at once, so that memory does not grow with a test split."""


def closed(task: Task) -> bool:
    """Whether answers are graded by a rule alone, so that asking a shortcut costs nothing."""
    return task.row_kind == "question" and task.answers.graded and not task.answers.judged


def training_rows(task: Task, source: Source, held_out: Iterable[Example]) -> list[Example]:
    """The rows that shortcuts are fitted on: `ROWS` of the training split, by a hash of their ids, none of them held out. Raises
    `UserError` without a training split.
    """
    kept_out = {key for example in held_out for key in (example.id, _asked(example))}
    rows = (
        example
        for example in task.examples(source, "train")
        if task.keep_for_training(example) and example.id not in kept_out and _asked(example) not in kept_out
    )
    return heapq.nsmallest(ROWS, rows, key=lambda example: hashlib.sha256(example.id.encode()).digest())


def answers(task: Task, held_out: Sequence[Example], training: Sequence[Example]) -> dict[str, list[str]]:
    """What each shortcut answers, one an example in order, by its name with the number of rows; none without training rows.

    A shortcut that sees nothing is left out: the options alone where they are the same for every row, and all but the nearest
    neighbour where answers cannot be listed (numbers, dates).
    """
    if not training:
        return {}
    words, ends = _Words(training), f"({len(training)} rows)"
    several = Counter(len(example.gold) for example in training).most_common(1)[0][0]  # golds of a set of letters
    listable = all(task.answers.options(example) or example.choices for example in (*training, *held_out))
    found = {f"nearest neighbour {ends}": _nearest(task, held_out, training, words, several)}
    if not listable:
        return found
    shared = not any(example.choices for example in training)  # the same words for every row: yes, no, maybe
    kinds = {"question alone": "question", "bag of words": "whole"} if shared else {
        "options alone": "options", "question alone": "question", "bag of words": "both",
    }  # fmt: skip
    for name, kind in kinds.items():
        scores = _fitted_scores(kind, task, held_out, training, words)
        found[f"{name} {ends}"] = [_answer(task, *each, several) for each in zip(held_out, scores, strict=True)]
    return found


def scores(task: Task, held_out: Sequence[Example], training: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Accuracy and mean credit of every shortcut, best first; each answer is graded as a model's is."""
    found = {}
    for name, given in answers(task, held_out, training).items():
        credits = [reading.credit or 0.0 for reading in task.answers.read_all(given, held_out)]
        found[name] = {"accuracy": credits.count(1.0) / len(credits), "mean_credit": sum(credits) / len(credits)}
    return dict(sorted(found.items(), key=lambda item: -item[1]["accuracy"]))


def of_run(run: Run, name: str, held_out: Sequence[Example]) -> dict[str, dict[str, float]] | None:
    """`scores` of one held-out task of a run; empty where its answers are not closed, None where there are no rows to fit on.

    Those of the hub are read where the run trains on them already: nothing is fetched for a reference row. Computed once in the
    life of a run, whose page is written at each checkpoint.
    """
    if _last.run is not run:
        _last.run, _last.found = run, {}
    if name not in _last.found:
        _last.found[name] = _of_run(run, name, held_out)
    return _last.found[name]


@dataclass
class _Known:
    """What was computed of the run that was asked about last."""

    run: Run | None = None
    found: dict[str, dict[str, dict[str, float]] | None] = field(default_factory=dict)


_last = _Known()


def _of_run(run: Run, name: str, held_out: Sequence[Example]) -> dict[str, dict[str, float]] | None:
    task = run.data_mix.tasks[name]
    if not closed(task):
        return {}
    read_already = run.algo.trains and run.data_mix.weights.get(name, 0) > 0
    if (run.source.fetches and not read_already) or not task.train or any(run.source.problems([(task, "train")])):
        return None
    kept_out = chain(
        held_out, task.examples(run.source, "test")
    )  # `eval.limit` asks a part, validation rows are of the other split
    return scores(task, held_out, training_rows(task, run.source, kept_out)) or None


def strongest(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """The row of ``reference`` that names the best of `scores`; none where there are no shortcuts."""
    name = next(iter(found), None)  # best first
    return {"shortcut": {"name": name, **found[name]}} if name else {}


def shortcut_floor(task: Task, source: Source) -> dict[str, float]:
    """Accuracy on the test split of the commonest gold (``majority``) and of each shortcut; empty where answers are not closed.
    Raises `UserError` where the source lacks a split.
    """
    if not closed(task):
        return {}
    held_out = list(task.examples(source, "test"))
    training = training_rows(task, source, held_out)
    favourite = min(Counter(example.gold for example in held_out).items(), key=lambda item: (-item[1], item[0]))[0]
    if task.answers.ranked:  # no disease is a candidate of every case: the place that holds the gold most often
        places = Counter(example.choices.index(example.gold) for example in held_out)
        share = max(places.values()) / len(held_out)
    else:
        always = task.answers.read_all([favourite] * len(held_out), held_out)
        share = sum(reading.credit == 1 for reading in always) / len(held_out)
    return {"majority": share, **{name: found["accuracy"] for name, found in scores(task, held_out, training).items()}}


def _asked(example: Example) -> tuple[str, ...]:
    return (example.context, example.question, *example.choices)


def _candidates(task: Task, example: Example) -> Sequence[str]:
    """The texts that an example's answer is chosen among, in the order of their letters."""
    return example.choices or task.answers.options(example)


def _golds(task: Task, example: Example) -> list[int]:
    """Places of the right candidates."""
    if not example.choices or task.answers.ranked:
        return [list(_candidates(task, example)).index(example.gold)]
    return [LETTERS.index(letter) for letter in example.gold]


def _answer(task: Task, example: Example, scores: Sequence[float], several: int) -> str:
    """Scores of the candidates as an answer that is graded; ``several`` letters where a set of them is asked for."""
    names = _candidates(task, example)
    order = sorted(range(len(names)), key=lambda at: -scores[at])  # the first shown of equals
    if task.answers.ranked:
        return listed([names[at] for at in order])
    if not example.choices:
        return names[order[0]]
    if isinstance(task.answers, Letters):
        return ", ".join(LETTERS[at] for at in sorted(order[:several]))
    return LETTERS[order[0]]


class _Words:
    """Texts as sparse rows of hashed words, each weighted by how few training questions hold it; unit length."""

    def __init__(self, training: Sequence[Example]) -> None:
        import numpy as np

        counts = Counter(bucket for example in training for bucket in self._buckets(_text(example)))
        self._weights = np.full(BUCKETS, 1 + np.log(1 + len(training)))
        for bucket, count in counts.items():
            self._weights[bucket] = 1 + np.log((1 + len(training)) / (1 + count))

    def matrix(self, texts: Sequence[str]) -> Any:
        """[texts, BUCKETS], rows of length 1; a text without words is a row of zeros."""
        import numpy as np
        from scipy.sparse import csr_matrix

        found = [self._buckets(text) for text in texts]
        columns = np.fromiter((bucket for each in found for bucket in each), dtype=np.int64)
        starts = np.cumsum([0, *map(len, found)])
        values = self._weights[columns]
        lengths = np.sqrt(np.add.reduceat(np.append(values**2, 0.0), starts[:-1])) if len(texts) else starts[:-1]
        values = values / np.repeat(lengths, np.diff(starts))
        return csr_matrix((values, columns, starts), shape=(len(texts), BUCKETS))

    @staticmethod
    def _buckets(text: str) -> list[int]:
        """Sorted, so that sums do not depend on the order of a set."""
        return sorted({zlib.crc32(unit.encode()) % BUCKETS for unit in units(text)})


def _text(example: Example) -> str:
    return f"{example.context}\n{example.question}"


def _nearest(task: Task, held_out: Sequence[Example], training: Sequence[Example], words: _Words, several: int) -> list[str]:
    """The gold of the training question with the greatest cosine; of options, the one that is most like its gold's words."""
    import numpy as np

    known = words.matrix([_text(example) for example in training])
    near = [
        int(at)
        for part in _blocks(held_out)
        for at in np.asarray((words.matrix(list(map(_text, part))) @ known.T).argmax(axis=1)).ravel()
    ]
    if not any(example.choices for example in held_out):
        return [training[at].gold for at in near]
    golds = [" ".join(_candidates(task, example)[at] for at in _golds(task, example)) for example in training]
    given = []
    for example, at in zip(held_out, near, strict=True):
        alike = words.matrix(example.choices) @ words.matrix([golds[at]]).T
        given.append(_answer(task, example, list(map(float, alike.toarray().ravel())), several))
    return given


def _blocks(examples: Sequence[Example]) -> Iterable[Sequence[Example]]:
    return (examples[start : start + BLOCK] for start in range(0, len(examples), BLOCK))


class _Candidates:
    """The candidates of some examples, one after the other, as one shortcut sees them."""

    def __init__(self, kind: str, task: Task, examples: Sequence[Example], words: _Words) -> None:
        import numpy as np

        listed_ = [_candidates(task, example) for example in examples]
        self.kind, self.counts = kind, [len(each) for each in listed_]
        self.row = np.repeat(np.arange(len(examples)), self.counts)
        self.place = np.concatenate([np.arange(count) for count in self.counts])
        shown = [example.question if kind == "question" else _text(example) for example in examples]
        self.questions = words.matrix(shown)
        texts = [text for each in listed_ for text in each]
        self.options = words.matrix(texts)
        lengths = np.log1p([len(text) for text in texts])
        starts = np.cumsum([0, *self.counts[:-1]])
        mean = np.add.reduceat(lengths, starts) / self.counts
        self.length = lengths - np.repeat(mean, self.counts)  # the longest option is often the right one

    def kernel(self, other: _Candidates) -> Any:
        """[own candidates, the other's candidates]: what two of them share, in this shortcut's features."""
        if self.kind != "options":
            questions = (self.questions @ other.questions.T).toarray()[self.row][:, other.row]
        if self.kind in ("question", "whole"):
            return (1 + questions) * (self.place[:, None] == other.place[None, :])
        options = (self.options @ other.options.T).toarray() + self.length[:, None] * other.length[None, :]
        return options if self.kind == "options" else options * (1 + questions)


def _fitted_scores(
    kind: str, task: Task, held_out: Sequence[Example], training: Sequence[Example], words: _Words
) -> list[list[float]]:
    """Scores of each held-out example's candidates by a conditional logit; log-probabilities up to a constant."""
    import numpy as np
    from scipy.optimize import minimize

    known = _Candidates(kind, task, training, words)
    starts = np.cumsum([0, *known.counts[:-1]])
    wanted = np.zeros(len(known.row))
    for start, example in zip(starts, training, strict=True):
        golds = _golds(task, example)
        wanted[start + np.asarray(golds)] = 1 / len(golds)
    kernel = known.kernel(known)
    scale = max(float(np.trace(kernel)) / len(kernel), 1e-12)
    kernel = kernel / scale

    def loss(alpha: Any) -> tuple[float, Any]:
        score = kernel @ alpha
        top = np.repeat(np.maximum.reduceat(score, starts), known.counts)
        powers = np.exp(score - top)
        sums = np.add.reduceat(powers, starts)
        logs = score - top - np.log(np.repeat(sums, known.counts))
        value = -(wanted * logs).sum() + len(training) * PENALTY / 2 * alpha @ score
        return float(value), kernel @ (np.exp(logs) - wanted + len(training) * PENALTY * alpha)

    alpha = minimize(loss, np.zeros(len(kernel)), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    found: list[list[float]] = []
    for part in _blocks(held_out):
        asked = _Candidates(kind, task, part, words)
        flat = asked.kernel(known) @ alpha / scale
        found += [list(map(float, each)) for each in np.split(flat, np.cumsum(asked.counts)[:-1])]
    return found
