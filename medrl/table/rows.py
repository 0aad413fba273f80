"""Rows of a table: published, measured over seeds, before training, as a paper grades, and what needs no model.

A published value is compared with the interval of the recipe (other seeds and examples), which one seed does not have. It is
*inside* where it lies in that interval and no end of it is further away than MARGIN, so that noise makes agreement harder and
not easier. Where the interval lies on one side of it, the measured one is *above* or *below*; else it is *not told*. The interval
of the published value is shown and does not decide: both numbers should be of the same examples, so that two intervals side by
side would count their chance twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean
from typing import Any, Literal

from medrl.config.schema import Published
from medrl.evaluation.settings import Eval
from medrl.report import phrases
from medrl.report.phrases import STRICT, UNKNOWN, Task
from medrl.statistics.metrics import Interval, over_seeds, wilson
from medrl.table.results import Record
from medrl.table.uncertainty import Uncertainty, by_example, of_values

SHARES = ("unparsed", "truncated", "ungraded")
"""Of all answers, those that are neither right nor wrong; a table shows them where it is asked to."""
INTERVALS = {"accuracy": "ci95", "perplexity": "ci95", "mean_credit": "mean_credit_ci95"}
"""Metrics of a task, and where their interval stands."""
METRICS = (*INTERVALS, *SHARES, "majority_vote")
"""What `number` knows, beside ``pass@K``."""
UNTOLD = ("seed=", "model.base_url=", "model.api_key_env=", "model.limits.")
"""Overrides by which configurations of one name are not told apart."""
MARGIN = 0.05
"""How far from a published share an interval may reach and still be called inside; of other numbers, as a part of them."""
COST = ("seconds", "gpu_hours", "usd", "tokens", "generated_tokens", "peak_memory_gib")
"""What a run took; ``usd`` only of a model behind an API."""
READABLE = "as a reader finds it"
Kind = Literal["published", "measured", "before", "earlier", "compat", "reference"]
"""``earlier``: a model that training has kept on the way, compared with nothing."""


@dataclass(frozen=True)
class Verdict:
    """A published number beside a measured one."""

    number: int
    """Place of the published number in its table, from 1."""
    word: str
    """``inside``: the published value lies in the recipe's interval, no end of which is further off than MARGIN; ``above``,
    ``below``: the whole interval lies there of it; ``not told``: neither, or one seed; ``not comparable``."""
    difference: float | None
    """Measured minus published, in the metric's own unit; None where they cannot be compared."""
    reasons: tuple[str, ...]
    """Why they cannot be compared, or why it is not told."""

    def __str__(self) -> str:
        why = f": {', '.join(self.reasons)}" if self.reasons else ""
        return f"{self.word} [{self.number}]{why}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number with everything that it is worth, and what it is compared with."""

    task: str
    metric: str
    kind: Kind
    who: str
    values: tuple[float, ...]
    """One a seed."""
    own: tuple[Interval | None, ...] = ()
    """Intervals of single runs, of their examples; None where one has none."""
    examples: tuple[Sequence[float], ...] = ()
    """Of each run, the share right of each example; empty where that is not known."""
    asked: Mapping[str, Any]
    """``n``, ``split`` and ``protocol``; of a measured number ``samples``, ``scorer`` and ``version``, too."""
    records: tuple[Record, ...] = ()
    """The runs, one a seed; none of a number that needed none of ours."""
    published: Published | None = None
    number: int = 0
    """Of a published number, its place in the table, from 1."""
    verdicts: tuple[Verdict, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        return [record["seed"] for record in self.records]

    @property
    def synthetic(self) -> bool:
        """Whether its rows, or some of them, say nothing about medicine."""
        return any(record["synthetic"] for record in self.records)

    @property
    def cost(self) -> dict[str, float] | None:
        """What one run took, as a mean over its seeds; None where nothing was trained for the number."""
        if not self.records or self.kind in ("before", "earlier"):
            return None
        costs = [{**record["cost"], "seconds": record["train"]["seconds"]} for record in self.records]
        return {key: fmean(cost.get(key) or 0 for cost in costs) for key in COST}

    @property
    def value(self) -> float:
        return fmean(self.values)

    @property
    def percent(self) -> bool:
        """Whether the number is an accuracy, which is shown in per cent."""
        return "accuracy" in self.metric or self.metric.startswith(("majority_vote", "pass@")) or self.metric in SHARES

    @property
    def share(self) -> bool:
        """Whether the number lies between 0 and 1."""
        return self.percent or self.metric == "mean_credit"

    @property
    def sd(self) -> float | None:
        """Standard deviation between seeds."""
        return over_seeds(self.values).sd

    @property
    def uncertainty(self) -> Uncertainty:
        """The mean with its two intervals, cut to what an accuracy can be."""
        found = of_values(self.values, self.own or [None] * len(self.values), self.examples)
        if not self.percent:
            return found
        ends = [ends and Interval(max(0.0, ends.low), min(1.0, ends.high)) for ends in found[2:]]
        return Uncertainty(found.mean, found.sd, *ends)


def of_published(row: Published, number: int) -> Row:
    """A published number, with Wilson's interval where it is an accuracy of so many examples."""
    known = row.metric == "accuracy" and row.n and 0 <= row.value <= 1
    own = (wilson(round(row.value * row.n), row.n),) if known and row.n else ()
    who, asked = f"{row.model} [{number}]", {"n": row.n, "split": row.split, "protocol": row.protocol}
    return Row(
        task=row.task, metric=row.metric, kind="published", who=who, values=(row.value,), own=own, asked=asked, published=row,
        number=number,
    )  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, and asked one task in the same way."""

    task: str
    members: tuple[tuple[Record, Task], ...]
    """Each run with what it says of the task, by seed."""
    overrides: tuple[str, ...] = ()
    """Those that distinguish it from other configurations of the same name in the table."""

    @property
    def metrics(self) -> Task:
        """Of the run with the first seed."""
        return self.members[0][1]

    @property
    def name(self) -> str:
        record = self.members[0][0]
        return f"{record['name']} {record['family']}"


def groups(records: Sequence[Record]) -> list[Group]:
    """Records by task, configuration without the seed, and way of asking."""
    found: dict[str, tuple[str, list[tuple[Record, Task]]]] = {}
    for record in records:
        for task, metrics in {**record["tasks"], **record.get("perplexity", {})}.items():
            way = [metrics.get(part) for part in ("version", "protocol", "scorer", "split", "n")]
            key = json.dumps([task, record["family"], Eval.asking(record["eval"]), way], sort_keys=True)
            found.setdefault(key, (task, []))[1].append((record, metrics))
    return [
        Group(task, tuple(sorted(members, key=lambda each: each[0]["seed"])), _distinguishing(members[0][0], records))
        for task, members in found.values()
    ]


def _distinguishing(record: Record, records: Sequence[Record]) -> tuple[str, ...]:
    """The overrides of a run that not all configurations of its name share, without those that say where and how fast it asks."""
    namesakes = [other.get("words", []) for other in records if other["name"] == record["name"]]
    shared = set(namesakes[0]).intersection(*namesakes)
    return tuple(word for word in record.get("words", []) if word not in shared and not word.startswith(UNTOLD))


def number(metrics: Mapping[str, Any], metric: str) -> tuple[float, Sequence[float] | None] | None:
    """A metric and its interval out of what a run says of a task; None where it was not measured."""
    if metric in INTERVALS and metric in metrics:
        return metrics[metric], metrics.get(INTERVALS[metric])
    if metric == "majority_vote" and "majority_vote" in metrics:
        return metrics["majority_vote"]["accuracy"], metrics["majority_vote"]["ci95"]
    if metric in SHARES and f"{metric}_ci95" in metrics:
        return metrics[metric], metrics[f"{metric}_ci95"]
    if metric in SHARES and metric in metrics:  # of a run before its intervals were stored
        answers = metrics["n"] * metrics.get("samples", 1) if "n" in metrics else None
        return metrics[metric], wilson(round(metrics[metric] * answers), answers) if answers else None
    k = metric.removeprefix("pass@")
    passed = metrics.get("pass_at", {}).get(k) if metric.startswith("pass@") else None
    return None if passed is None else (passed, metrics.get("pass_at_ci95", {}).get(k))


def measured(group: Group, metric: str) -> Iterator[Row]:
    """The rows of one group: before training and after it, each also as a careful reader finds it, and as papers grade.

    Yields nothing where the metric was not measured.
    """
    metrics = group.metrics
    name = group.name if metrics.get("scorer", STRICT) == STRICT else f"{group.name} ({metrics['scorer']})"
    if metrics["change"]:
        before = f"{name}, {phrases.before(metrics)}"
        yield from _row(group, metric, "before", before, "base")
        yield from _row(group, metric, "before", f"{before}, {READABLE}", "base", "readable", scorer="readable")
    for which in metrics.get("earlier", {}):
        yield from _row(group, metric, "earlier", f"{name}, after {which.replace('-', ' ')}", "earlier", which)
    yield from _row(group, metric, "measured", " ".join([name, *group.overrides]))
    yield from _row(group, metric, "compat", f"{name}, {READABLE}", "readable", scorer="readable")
    for key in metrics.get("compat", {}) if metric == "accuracy" else ():
        scorer = f"as {key} grades"
        yield from _row(group, metric, "compat", f"{name}, {scorer}", "compat", key, "accuracy", scorer=scorer)


def _row(group: Group, metric: str, kind: Kind, who: str, *path: str, scorer: str = "") -> Iterator[Row]:
    """The numbers that lie at the end of a path in what each run says of the task; no row where one of them has none."""
    metrics = group.metrics
    parts = [reduce(lambda part, step: part.get(step) or {}, path, task) for _, task in group.members]
    numbers = [number(part, metric) for part in parts]
    found = [each for each in numbers if each]
    if len(found) == len(numbers):
        asked = {key: metrics[key] for key in ("split", "protocol", "version")} | {"samples": metrics.get("samples", 1)}
        asked |= {"n": parts[0].get("n", metrics["n"]), "scorer": scorer or metrics.get("scorer", "")}
        own = tuple(Interval(*ends) if ends and ends[0] < ends[1] else None for _, ends in found)
        examples = tuple(by_example([task for _, task in group.members], parts)) if metric == "accuracy" else ()
        yield Row(
            task=group.task, metric=metric, kind=kind, who=who, values=tuple(value for value, _ in found), own=own, asked=asked,
            examples=examples, records=tuple(record for record, _ in group.members),
        )  # fmt: skip


def references(group: Group, metric: str) -> Iterator[Row]:
    """What answers that need no model score on the questions of a group."""
    asked = {key: group.metrics[key] for key in ("n", "split", "protocol")}
    for who, found in phrases.references(group.metrics).items() if "reference" in group.metrics else ():
        if metric in found:
            yield Row(task=group.task, metric=metric, kind="reference", who=who, values=(found[metric],), asked=asked)


def verdict(number: int, published: Published, row: Row, version_now: int | None) -> Verdict:
    """Compare a measured row with a published number of the same task, by its place in its table; ``version_now`` is the task's
    version in this medrl, None where it has no such task.
    """
    if reasons := tuple(_incomparable(published, row, version_now)):
        return Verdict(number, "not comparable", None, reasons)
    difference, found = row.value - published.value, row.uncertainty.recipe
    if found is None:
        return Verdict(number, "not told", difference, (UNKNOWN if len(row.values) == 1 else "no interval of ours",))
    margin = MARGIN * (1.0 if row.share else abs(published.value))
    if not found.low <= published.value <= found.high:
        return Verdict(number, "above" if published.value < found.low else "below", difference, ())
    if max(published.value - found.low, found.high - published.value) <= margin:
        return Verdict(number, "inside", difference, ())
    within = f"{100 * MARGIN:.0f} points" if row.percent else f"{MARGIN}" if row.share else f"{MARGIN:.0%} of it"
    return Verdict(number, "not told", difference, (f"the interval reaches further than {within} from it",))


def _incomparable(published: Published, row: Row, version_now: int | None) -> Iterator[str]:
    """Every reason why a measured row and a published number are not of one kind."""
    if published.metric != row.metric:
        yield f"other metric ({row.metric}, published {published.metric})"
    if published.protocol != row.asked["protocol"]:
        yield f"other protocol ({row.asked['protocol']}, published {published.protocol})"
    if row.synthetic:
        yield "synthetic rows"
    elif not same_split(published.split, row.asked["split"]):
        yield f"other split ({row.asked['split']}, published {published.split})"
    if any(record["eval"].get("split") == "validation" for record in row.records):
        yield "validation rows, held out of training"
    if published.n is not None and published.n != row.asked["n"]:
        yield f"other n ({row.asked['n']}, published {published.n})"
    if version_now is not None and row.asked["version"] != version_now:
        yield f"another task version ({row.asked['version']}, now {version_now})"


def same_split(published: str, ours: str) -> bool:
    """Whether two names are of one split: the same, or with the same last word, as ``USMLE test`` and ``default/test`` have.

    A part of a split has a name of its own in medrl, so that it is never taken for the whole.
    """
    words = [name.casefold().replace("/", " ").split() for name in (published, ours)]
    return words[0][-1:] == words[1][-1:]
