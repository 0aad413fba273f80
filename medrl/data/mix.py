"""The weighted, seeded mixture of tasks: which rows training sees, which are left out, and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import islice
from operator import attrgetter
from random import Random
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from annotated_types import Ge, Gt

from medrl.config.bounds import TOKENS, Most
from medrl.config.identity import Identified, Values, digest
from medrl.data.decontaminate import Decontaminator, DedupKey, Rule
from medrl.data.example import Example
from medrl.data.lazy import Lazy
from medrl.data.prompts import Messages, messages
from medrl.data.sources import Source, Split
from medrl.errors import Problem, UserError
from medrl.grading.answers import Format, layout, tags
from medrl.tasks.base import Task

SAME_ID = "same id, other content"
"""Rows taken although a held-out row of the user's own has their id."""
TokenCounts = Callable[[Sequence[Messages]], list[int]]
"""Tokens of prompts after the chat template, where they are too many; else any number that is not."""
BY_ANSWER = {"balanced": "answers balanced", "square_root": "answers by square root"}
"""Values of `DataMix.take` that look at answers, and what the report calls the number of answers then."""
COUNTED_AT_ONCE = 1024
"""Prompts that are counted at once, at most."""
_shown: dict[str, list[Example]] = {}
"""Demonstrations that were chosen before in this process, by what decides them: a training split is read once for them."""


@dataclass(frozen=True)
class TrainingRow:
    """One training row: an example and the task that it belongs to."""

    example: Example
    task: Task

    @property
    def messages(self) -> Messages:
        return messages(self.example, self.task)

    @property
    def demonstration(self) -> str:
        """What supervised training imitates: the data set's own reasoning, then the gold.

        Of a row without reasoning it is the gold alone, because a thought that is empty is a thought that is learned.
        """
        form, answer = self.task.format, self.task.answer(self.example)
        shown = layout(self.example.rationale, answer, form)
        if self.example.rationale or form == "plain":
            return shown
        return shown.removeprefix("\n") if form == "boxed" else shown.partition(f"{tags(form)[1]}\n")[2]

    @property
    def misleads(self) -> bool:
        """Whether its own task would not grade the demonstration right: one whose reasoning holds another box, say.

        Nobody asks a judge, who is paid by the question.
        """
        if self.task.row_kind != "question" or not self.task.answers.graded or self.task.answers.judged:
            return False
        return self.task.grade(self.demonstration, self.example).outcome != "right"


class DrawnMix(NamedTuple):
    """A mixture as it turned out."""

    rows: list[TrainingRow]
    report: dict[str, dict[str, float]]
    """For each task: rows available, dropped (with the reason), taken, repeated, and the realised share."""
    contaminated: list[dict[str, Any]]
    """Rows that were dropped because they share something with a held-out one, and what."""
    rule: Rule
    """How they were found."""


@dataclass(frozen=True, kw_only=True)
class DataMix(Identified):
    """Tasks with weights for training, and the tasks that are held out for evaluation."""

    kind: ClassVar[str] = "data_mix"
    not_learned: ClassVar[frozenset[str]] = frozenset(
        {"format", "tasks", "held_out"}
    )  # each task has its format; `learned` has the tasks

    tasks: Mapping[str, Task]
    """Every task that is trained on or evaluated, by the name under which weights and results call it."""
    weights: Mapping[str, float]
    """Share of the training rows of each task; they sum to 1."""
    held_out: tuple[str, ...]
    """Tasks whose test split is evaluated before and after training."""
    rows: Annotated[int, Gt(0), Most(10**7, "all drawn rows are held in memory")]
    """Rows drawn. A task with fewer than its share is gone through again, in another order."""
    take: Literal["random", "first", "balanced", "square_root"]
    """Which rows of a task are drawn: any, by the seed; the first as published that nothing leaves out; as many of each answer,
    rows of rare ones again and again, so that no constant answer earns more than another (``balanced``); or of each answer by the
    square root of its rows (Mahajan et al. 2018, arXiv 1805.00932), between the two: the commonest answer alone earns less than
    it does held out, and a rare one is not learned as a common one. The last two are for answers that can be listed (decisions,
    letters); tasks with others take any rows."""
    validation_rows: Annotated[int, Gt(0)] | None
    """Rows of each held-out task's training split that nothing is trained on, so that settings can be chosen by them
    (``eval.split=validation``) and the test split is left for what was chosen. null keeps none."""
    decontaminate: Rule
    """Which training rows are dropped because of a held-out one, beside those with its id. ``question``: its question with
    other options or in other words, its case, its text. ``ngram``: its question with its options, and whatever shares 13 words,
    or Chinese characters, in a row. ``none``: no others. Synthetic twins are compared by ``ngram`` where this says
    ``question``: they ask the same few questions again and again."""
    format: Format
    """Shape of a completion that the prompts ask for; a task may have its own."""
    max_prompt_tokens: Annotated[int, Gt(0), TOKENS]
    """Training rows with a longer prompt, demonstrations included, are dropped and counted. Prompts are never cut."""
    shots: Annotated[int, Ge(0), Most(1000, "every question is shown all of them")]
    """Demonstrations that are shown before each question as turns of the conversation, in training and in evaluation, before it
    and after: rows of the task's own training split, the same ones for every row, seed and model, which are not trained on."""

    def identity(self) -> Values:
        """Without `shots` and `take` where they say nothing: runs of before there were these keep their ids."""
        neutral = {"shots": 0, "take": "random"}
        return {key: value for key, value in super().identity().items() if neutral.get(key, ...) != value}

    def problems(self) -> Iterator[Problem]:
        """Mistakes in weights and names."""
        for key, weight in self.weights.items():
            if weight < 0:
                yield Problem(f"weights.{key}", f"is {weight}; a share cannot be negative")
        total = sum(self.weights.values())
        if not abs(total - 1) <= 1e-6:  # written so that NaN is caught
            yield Problem("weights", f"sum to {total:g}, should sum to 1")
        for option, names in (("weights", self.weights), ("held_out", self.held_out)):
            for name in names:
                if name not in self.tasks:
                    yield Problem(option, f"names {name}, which is not among tasks: {', '.join(self.tasks)}")
        for name, task in self.tasks.items():
            for problem in task.problems():
                yield replace(problem, key=f"tasks.{name}.{problem.key}")
        for name in self.held_out:
            # Of the other kinds nothing is graded: pairs are compared and texts predicted.
            if name in self.tasks and self.tasks[name].row_kind == "question" and not self.tasks[name].answers.graded:
                yield Problem("held_out", f"names {name}, whose answers neither a rule nor a judge grades")
        if self.shots and not any(map(self._shows, self.tasks)):
            yield Problem("shots", f"is {self.shots}, and no task of this mix asks questions; write 0")
        for name, task in self.tasks.items():
            if self._shows(name) and task.location("test").file and not task.location("train").file:
                yield Problem("shots", f"shows rows of a training split, and {name} has none; write data_mix.tasks.{name}.train")

    def splits(self, trains: bool) -> list[tuple[str, Split]]:
        """Tasks and the splits of them that a run reads: to train on, validate and show examples of, and what is held out.

        Args:
            trains: Whether something is trained. If not, references may still read a training split, but rows of the user's own
                need none.
        """
        held_out = [name for name in self.held_out if name in self.tasks]  # another name is reported by itself
        read = [name for name, task in self.tasks.items() if self.weights.get(name, 0) > 0 and (trains or task.train)]
        read += held_out if self.validation_rows or self.shots else ()
        return [*((name, "train") for name in dict.fromkeys(read)), *((name, "test") for name in held_out)]

    def learned(self, source: Source, *, graded: bool) -> Values:
        """What decides which rows are trained on, and what they ask.

        Args:
            source: Where the rows come from.
            graded: Whether training grades answers. If not, who grades them changes nothing.
        """
        weights = {name: weight for name, weight in self.weights.items() if weight > 0}
        trained = {
            name: _without(self.tasks[name], frozenset() if graded else self.tasks[name].grading)
            | {"rows": source.identity_of(self.tasks[name], "train")}
            for name in weights
        }
        splits: list[Split] = ["test", "train"] if self.validation_rows else ["test"]
        held_out = {  # their rows are kept out of training, however they are asked and graded
            name: _without(self.tasks[name], self.tasks[name].grading | {"format"})
            | {"rows": [source.identity_of(self.tasks[name], split) for split in splits]}
            for name in self.held_out
        }
        return self.identity() | {"weights": weights, "tasks": trained, "held_out": held_out}

    def draw(self, source: Source, seed: int, count_tokens: TokenCounts | None, *, imitated: bool = False) -> DrawnMix:
        """Draw the training rows; the same for the same seed in every process.

        Args:
            source: Where the rows come from.
            seed: Orders the rows of each task and the mixture.
            count_tokens: Lengths of prompts; None keeps prompts of any length (before a tokenizer is trained).
            imitated: Whether demonstrations are learned: those that their own task grades as anything but right are left out.

        Raises:
            UserError: a task has no row left after its filters.
        """
        rule = self._rule(source)
        held_out = Decontaminator(self._held_out(source), rule)
        drawn: list[TrainingRow] = []
        contaminated: list[dict[str, Any]] = []
        report: dict[str, dict[str, float]] = {}
        for name, wanted in sorted(_shares(self.weights, self.rows).items()):  # the run id does not see the order of keys
            if wanted == 0:
                continue
            order = Random(f"{name}:{seed}")
            rows, counts, dropped = self._draw_task(name, wanted, source, order, held_out, count_tokens, imitated)
            drawn += rows
            contaminated += dropped
            report[name] = {**counts, "taken": wanted, "share": wanted / self.rows}
        if self.take in BY_ANSWER and not any(BY_ANSWER[self.take] in counts for counts in report.values()):
            raise UserError(
                f"data_mix.take={self.take}: the answers of {', '.join(report)} cannot be listed; write data_mix.take=random."
            )
        Random(f"mix:{seed}").shuffle(drawn)
        return DrawnMix(drawn, report, contaminated, rule)

    def validation(self, source: Source, name: str) -> list[Example]:
        """The rows of a held-out task's training split that settings are chosen by; the same for every run and seed.

        They come in the order of a hash over their ids, and none of them shares anything with a test row.

        Raises:
            UserError: the training split has too few rows, or `validation_rows` is null.
        """
        wanted = self.validation_rows
        if wanted is None:
            raise UserError("eval.split=validation needs rows to choose by; set data_mix.validation_rows, to 200 say.")
        ordered = self._by_hash(source, name)
        kept = list(islice(self._untested(source, name, ordered), wanted))
        if len(kept) < wanted or 2 * wanted > len(ordered):
            raise UserError(
                f"data_mix.validation_rows={wanted} is more than half of the {len(ordered)} training rows of {name} that are not "
                "held out already; lower it."
            )
        return kept

    def first_rows(self, source: Source, name: str, count: int) -> list[Example]:
        """The first `validation` rows, or those that would be: at most ``count``, and none that is shown (`shots`)."""
        shown = self.shown(source, name)
        rows = self._untested(source, name, self._by_hash(source, name))
        return list(islice((each for each in rows if each not in shown), count))

    def _by_hash(self, source: Source, name: str, salt: str = "") -> list[Example]:
        """The training split of a task in the order of a hash over its ids."""
        examples = self.tasks[name].examples(source, "train")
        return sorted(examples, key=lambda each: hashlib.sha256(f"{salt}{each.id}".encode()).digest())

    def _untested(self, source: Source, name: str, examples: Iterable[Example]) -> Iterator[Example]:
        """Those that share nothing with a row of the task's test split."""
        task = self.tasks[name]
        tested = Decontaminator((task.content(example) for example in task.examples(source, "test")), self._rule(source))
        return (each for each in examples if not tested.match(task.content(each)))

    def shown(self, source: Source, name: str) -> list[Example]:
        """The demonstrations of a task: rows of its training split that share nothing with anything held out.

        They come in the order of a hash over their ids; each next one has a gold that was shown least so far.

        Raises:
            UserError: there are too few.
        """
        if not self._shows(name):
            return []
        key = digest([self.kind, name, self.shown_by(source, name)])
        if key not in _shown:
            _shown[key] = self._chosen(source, name)
        return _shown[key]

    def shown_by(self, source: Source, name: str) -> Values:
        """What decides which demonstrations a task has, and how they look; empty where it has none."""
        if not self._shows(name):
            return {}
        task = self.tasks[name]
        held_out = [source.identity_of(self.tasks[other], "test") for other in self.held_out]
        rows = {"train": source.identity_of(task, "train"), "held_out": held_out, "validation_rows": self.validation_rows}
        return {"shots": self.shots, "task": task.identity(), **rows, "decontaminate": self.decontaminate}

    def with_shots(self, source: Source, name: str, examples: Iterable[Example]) -> list[Example]:
        """Examples of a task with its demonstrations before them."""
        shots = self._demonstrations(source, name)
        return [replace(example, shots=shots) for example in examples] if shots else list(examples)

    def _demonstrations(self, source: Source, name: str) -> tuple[tuple[str, str], ...]:
        task = self.tasks[name]
        return tuple((task.ask(each), TrainingRow(each, task).demonstration) for each in self.shown(source, name))

    def _shows(self, name: str) -> bool:
        """Whether a task that is trained on or held out has demonstrations."""
        used = self.weights.get(name, 0) > 0 or name in self.held_out
        return self.shots > 0 and used and self.tasks[name].row_kind == "question"

    def _chosen(self, source: Source, name: str) -> list[Example]:
        task, held_out = self.tasks[name], Decontaminator(self._held_out(source), self._rule(source))
        ordered = self._by_hash(source, name, "shown/")
        chosen: list[Example] = []

        def fits(example: Example) -> bool:
            row = TrainingRow(example, task)
            again = _content(example) in map(_content, chosen)
            told = bool(example.gold) and not row.misleads
            return not again and task.keep_for_training(example) and told and not held_out.match(task.content(example))

        for count in range(self.shots):
            golds = Counter(each.gold for each in chosen)
            found = next(filter(fits, sorted(ordered, key=lambda each: golds[each.gold])), None)
            if found is None:
                raise UserError(
                    f"data_mix.shots={self.shots}: {count} of the {len(ordered)} training rows of {name} can be shown; the "
                    "others are held out already, or their demonstration is not graded right. Lower it."
                )
            chosen.append(found)
        return chosen

    def _rule(self, source: Source) -> Rule:
        twins = source.synthetic and all(
            self.tasks[name].location(split).file is None for name, split in self.splits(trains=True)
        )
        return "ngram" if twins and self.decontaminate == "question" else self.decontaminate

    def _held_out(self, source: Source) -> Iterator[DedupKey]:
        """Everything that is not trained on: test rows and validation rows."""
        for name in self.held_out:
            task = self.tasks[name]
            yield from (task.content(example) for example in task.examples(source, "test"))
            kept = self.validation(source, name) if self.validation_rows else []
            # They are rows of the training split itself, where an id names one row.
            yield from (task.content(example)._replace(telling_id=True) for example in kept)

    def _draw_task(
        self,
        name: str,
        wanted: int,
        source: Source,
        order: Random,
        held_out: Decontaminator,
        count_tokens: TokenCounts | None,
        imitated: bool,
    ) -> tuple[list[TrainingRow], Counter[str], list[dict[str, Any]]]:
        task = self.tasks[name]
        found = task.examples(source, "train")
        examples = found if isinstance(found, Lazy) else list(found)
        counts = Counter({"available": len(examples)})
        if not source.invents(task, "train"):
            first: dict[tuple[Any, ...], Example] = {}
            for example in examples:
                first.setdefault(_content(example), example)
            examples = list(first.values())
        counts.update(
            {
                "dropped as duplicate": counts["available"] - len(examples),
                "dropped by filter": 0,
                "dropped as held out": 0,
                "dropped as too long": 0,
                "dropped as not graded right": 0,
                "repeated": 0,
            }
        )
        places = list(range(len(examples)))
        if self.take != "first":
            order.shuffle(places)
        kept: list[TrainingRow] = []
        contaminated: list[dict[str, Any]] = []
        shown, shortest = set(map(_content, self.shown(source, name))), 0
        shots = self._demonstrations(source, name)

        def clean() -> Iterator[tuple[TrainingRow, DedupKey]]:
            for example in map(examples.__getitem__, places):
                key = task.content(example)
                if shown and _content(example) in shown:
                    counts["dropped as shown"] += 1
                elif not task.keep_for_training(example):
                    counts["dropped by filter"] += 1
                elif match := held_out.match(key):
                    counts["dropped as held out"] += 1
                    contaminated.append({"task": name, "id": example.id, **match._asdict()})
                else:
                    yield TrainingRow(replace(example, shots=shots) if shots else example, task), key

        rows = clean()
        most = len(examples) if self.take in BY_ANSWER else wanted  # how many of an answer are left shows at the end
        # No more at once than are wanted still, so that no row is looked at of which nothing would be known one by one.
        while part := list(islice(rows, min(most - len(kept), COUNTED_AT_ONCE))):
            lengths = count_tokens([row.messages for row, _ in part]) if count_tokens else [0] * len(part)
            for (row, key), tokens in zip(part, lengths, strict=True):
                if tokens > self.max_prompt_tokens:
                    counts["dropped as too long"] += 1
                    shortest = min(shortest or tokens, tokens)
                elif imitated and row.misleads:
                    counts["dropped as not graded right"] += 1
                else:
                    kept.append(row)
                    if held_out.same_id(key):
                        counts[SAME_ID] += 1
        if not kept:
            raise UserError(self._nothing_left(name, counts, contaminated, shortest, demonstrated=bool(shown)))
        groups = _by_answer(kept) if self.take in BY_ANSWER else {}
        if groups:
            counts[BY_ANSWER[self.take]] = len(groups)
        power = 0.5 if self.take == "square_root" else 0.0
        weights = {answer: len(rows) ** power for answer, rows in (groups or {"": kept}).items()}
        taken: list[TrainingRow] = []
        for answer, share in _shares(weights, wanted).items():
            rest = groups.get(answer, kept)
            counts["repeated"] += max(0, share - len(rest))
            taken += _again_and_again(rest, share, order)
        return taken, counts, contaminated

    def _nothing_left(
        self, name: str, counts: Counter[str], contaminated: list[dict[str, Any]], shortest: int, *, demonstrated: bool
    ) -> str:
        """Why no row of a task is left, and what to do. ``shortest`` prompt of those that were too long, 0 where none was."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if reason.startswith("dropped"))
        said = (
            f"The mix is empty: no row of {name} is left of {counts['available']} ({reasons}). Loosen its filter, raise "
            f"data_mix.max_prompt_tokens, or set data_mix.weights.{name}=0 and the others to sum to 1."
        )
        if shortest:
            limit = f"data_mix.max_prompt_tokens={self.max_prompt_tokens}"
            included = f", data_mix.shots={self.shots} included" if demonstrated else ""
            said += f" The shortest prompt above {limit} has {shortest} tokens{included}."
        if 0 < counts["dropped as held out"] == counts["available"] - counts["dropped as duplicate"]:
            first = contaminated[0]
            said += (
                f" All of them are held out, the first as {first['held_out']} ({first['reason']}): where training and evaluation "
                f"read one set, part it in data_mix.tasks.{name}.train and .test; where two sets are alike in words alone, write "
                "data_mix.decontaminate=none."
            )
        return said


def _content(example: Example) -> tuple[Any, ...]:
    """All of an example but its id: two with the same are one row twice."""
    kind = type(example)
    return kind, _values_of(kind)(example)  # type: ignore[arg-type]  # mypy takes the hash of examples for that of their type


@cache
def _values_of(kind: type[Example]) -> Callable[[Example], Any]:
    return attrgetter(*(field.name for field in fields(kind) if field.name != "id"))


def _without(task: Task, fields: Collection[str]) -> Values:
    """A task's identity without some of its fields."""
    return {key: value for key, value in task.identity().items() if key not in fields}


def _by_answer(rows: Iterable[TrainingRow]) -> dict[str, list[TrainingRow]]:
    """Rows of a task by their golds; empty where its answers cannot be listed."""
    groups: dict[str, list[TrainingRow]] = {}
    for row in rows:
        if row.task.row_kind != "question" or row.example.gold not in row.task.answers.options(row.example):
            return {}
        groups.setdefault(row.example.gold, []).append(row)
    return dict(sorted(groups.items()))


def _again_and_again(rows: Sequence[TrainingRow], count: int, order: Random) -> list[TrainingRow]:
    """So many rows, each as often as any other, or once less."""
    taken = list(rows[:count])
    while len(taken) < count:
        again = list(rows)
        order.shuffle(again)
        taken += again[: count - len(taken)]
    return taken


def _shares(weights: Mapping[str, float], rows: int) -> dict[str, int]:
    """Whole numbers that sum to ``rows`` and are nearest to the weights (largest remainders)."""
    total = sum(weights.values())  # 1, but for rounding, which many rows would make visible
    exact = {name: weight / total * rows for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: rows - sum(counts.values())]:
        counts[name] += 1
    return counts
