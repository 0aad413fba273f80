"""The reward audit: what known hacks earn beside the gold, before anything is trained on the reward.

A reward is a specification, and reinforcement learning finds its holes. Here they are looked for first: texts that a lazy
or a clever policy might write are scored as completions are, and a set that pays one of them more than the right answer
stops the run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.errors import UserError
from medrl.files import packaged
from medrl.grading.answer_types.ranking import listed
from medrl.grading.answers import layout
from medrl.grading.verdicts import Attempt
from medrl.rewards.base import Completion, Scores
from medrl.table.table import Column, Table, terminal_width
from medrl.training import distributed

if TYPE_CHECKING:
    from medrl.algos.base import Algo, Job
    from medrl.config.schema import Run
    from medrl.data.mix import TrainingRow
    from medrl.rewards.base import RewardSet
    from medrl.rewards.controls import Control

ROWS = 16
"""Training rows of each task that are tried."""
BASE_ROWS = 8
"""Rows of each task that the model before training completes."""
BASE_SAMPLES = 4
"""Completions of each of them: whether any two are paid differently is what learning from rewards lives on."""
TOLERANCE = 1e-9
GOLD = "gold"
BASE = "base model"
WRONG = "wrong answer"

STEPS: Mapping[str, str] = packaged(__file__, "reasoning.yaml")
"""The reasoning of every probe, by language."""


class Finding(NamedTuple):
    """One hole in a reward set."""

    task: str
    probe: str
    message: str


class Earned(NamedTuple):
    """What sampled completions of the model before training earn on one task."""

    format: str
    rows: int
    varied: int
    """Rows of which two completions are paid differently."""
    completions: int
    right: int
    """In the shape that is asked for, which is what is paid."""
    credited: int
    """With any credit of the task's own grade, half or a rank included."""
    readable: int
    """In which a careful reader finds an answer."""
    readable_right: int
    truncated: int
    """Cut by the token limit."""

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to learn from: no credit anywhere, or none of the rows has a better and a worse completion."""
        return self.credited == 0 or (self.varied == 0 and self.right < self.completions)


@dataclass(frozen=True)
class Audit:
    """Mean score of each reward, and the mean total, for each probe of each task."""

    matrix: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    """``task -> probe -> reward -> mean score``, with the weighted sum under ``total``."""
    findings: tuple[Finding, ...]
    base: Mapping[str, Earned] = field(default_factory=dict)
    """What the model before training earns, by task, where answers are graded; empty until it was asked."""

    def as_json(self) -> dict[str, Any]:
        """For ``plan.json``."""
        earned = {task: found._asdict() for task, found in self.base.items()}
        return {"matrix": self.matrix, "findings": [finding._asdict() for finding in self.findings], "base": earned}

    def describe(self) -> str:
        """For each task, every reward on every probe."""
        tables = []
        for task, probes in self.matrix.items():
            names = list(next(iter(probes.values())))
            tables.append(_table(task, names, {probe: [scores[name] for name in names] for probe, scores in probes.items()}))
        return "\n".join(tables + self._findings())

    def totals(self) -> str:
        """What every probe earns in all, task by task; single rewards are in ``plan.json``."""
        tried = dict.fromkeys(probe for probes in self.matrix.values() for probe in probes)
        scores = {probe: [probes.get(probe, {}).get("total") for probes in self.matrix.values()] for probe in tried}
        return "\n".join([_table("total reward of", list(self.matrix), scores), *self._findings()])

    def _findings(self) -> list[str]:
        return [f"audit    {finding.task}: {finding.message}" for finding in self.findings]


def _table(what: str, names: Sequence[str], scores: Mapping[str, Sequence[float | None]]) -> str:
    """Scores by probe, for the terminal."""
    columns = [Column(f"audit    {what}"), *(Column(name, right=True, spec=".2f") for name in names)]
    rows = [[f"         {probe}", *("-" if score is None else score for score in row)] for probe, row in scores.items()]
    return Table(columns, rows).text(terminal_width())


def audit(rewards: RewardSet, rows: Sequence[TrainingRow]) -> Audit:
    """Try the probes on the first training rows of each task, in the order in which they were drawn."""
    matrix: dict[str, Any] = {}
    findings: list[Finding] = []
    for task, sample in _by_task(rows).items():
        tried: dict[str, list[Completion]] = {}
        for row in sample:
            for probe, text in probes(row, sample):
                tried.setdefault(probe, []).append(Completion(text, row))
        scored = {probe: rewards.scores(completions) for probe, completions in tried.items()}
        totals = {probe: rewards.weighted(scores) for probe, scores in scored.items()}
        matrix[task] = {probe: _means(scored[probe], totals[probe]) for probe in scored}
        findings += _findings(task, tried, totals, scored[GOLD])
    return Audit(matrix, tuple(findings))


def with_base(found: Audit, rewards: RewardSet, completions: Sequence[Completion]) -> Audit:
    """The audit with what the model before training wrote, as one more probe."""
    matrix = {task: dict(probes) for task, probes in found.matrix.items()}
    findings, base = list(found.findings), {}
    for task in matrix:
        written = [completion for completion in completions if completion.row.example.task == task]
        if not written:
            continue
        scores = rewards.scores(written)
        totals = rewards.weighted(scores)
        matrix[task][BASE] = _means(scores, totals)
        if written[0].row.task.answers.graded:
            base[task] = _earned(written, totals)
        golds = rewards.totals([Completion(gold_text(completion.row), completion.row) for completion in written])
        for completion, total, gold in zip(written, totals, golds, strict=True):
            if _not_right(completion) and total > gold + TOLERANCE:
                message = (
                    f"a completion of the base model to example {completion.row.example.id} that is not right earns "
                    f"{total:.3f}, the gold {gold:.3f}: {completion.text[:120]!r}"
                )
                findings.append(Finding(task, BASE, message))
                break
    return Audit(matrix, tuple(findings), base)


def _earned(written: Sequence[Completion], totals: Sequence[float]) -> Earned:
    """The completions of a row stand together."""
    task, strict = written[0].row.task, [completion.verdict for completion in written]
    attempts = [Attempt(completion.text, completion.row.example, completion.finished) for completion in written]
    readable = [verdict.outcome for verdict in task.read_all(attempts, strict)]
    rows = groupby(range(len(written)), key=lambda at: written[at].row.example.id)
    paid = [[totals[at] for at in places] for _, places in rows]
    return Earned(
        format=task.format,
        rows=len(paid),
        varied=sum(max(row) - min(row) > TOLERANCE for row in paid),
        completions=len(written),
        right=sum(verdict.outcome == "right" for verdict in strict),
        credited=sum(verdict.credit > 0 or verdict.outcome == "ungraded" for verdict in strict),
        readable=sum(outcome in ("right", "wrong", "ungraded") for outcome in readable),
        readable_right=readable.count("right"),
        truncated=sum(not completion.finished for completion in written),
    )


def advice(found: Audit, run: Run, longest: int) -> str:
    """One paragraph for a model that earns nothing before training: what was seen and what to type. Empty where it earns
    something. ``longest``: tokens of the longest prompt.
    """
    poor = {task: earned for task, earned in found.base.items() if earned.nothing}
    if not poor:
        return ""
    seen = "; ".join(
        f"{task}: of {each.completions} sampled completions {each.right} are right in the format {each.format}, and the "
        f"completions of {each.rows - each.varied} of {each.rows} rows are all paid alike; a reader finds an answer in "
        f"{each.readable} ({each.readable / each.completions:.0%}), {each.readable_right} of them right"
        + f"; the token limit cut {each.truncated}"
        * bool(each.truncated)
        for task, each in poor.items()
    )
    return (
        f"warning  The model before training earns nothing that rewards could reinforce. {seen}. What is paid for the shape "
        f"alone teaches the shape, and can look like a gain. Write {' or '.join(_ways(run, longest, poor.values()))}."
    )


def _ways(run: Run, longest: int, poor: Collection[Earned]) -> list[str]:
    """Overrides that give a model something to earn, those of them that the run does not have already."""
    mix, ways = run.data_mix, []
    tokens = -(-3 * longest // 256) * 256  # two demonstrations as long as the longest prompt
    limit = getattr(run.algo, "max_completion_tokens", 0)
    room = run.model.context_tokens - limit
    if any(2 * each.truncated > each.completions for each in poor):
        ways.append(f"algo.max_completion_tokens={2 * limit} (most completions are cut)")
    if not mix.shots and tokens <= room:
        longer = f" data_mix.max_prompt_tokens={tokens}" * (tokens > mix.max_prompt_tokens)
        ways.append(f"data_mix.shots=2{longer} (demonstrations in the prompt)")
    if not run.chosen:
        ways.append("data_mix.format=auto (asks the model which format it knows)")
    ways.append("chain=sft_grpo in the place of algo=... (a cold start: a few demonstrations are imitated first)")
    return ways


def sampled(job: Job, algo: Algo) -> list[Completion]:
    """What the model writes before training to the first rows of each task, several times, at the temperature of training.

    Where vLLM will write what is learned from, it writes this, too. Of several processes this one is alone here, and vLLM would
    wait for the others.
    """
    from medrl.models.generation import Sampling, Transformers
    from medrl.report.progress import Progress

    run = job.run
    rows = [row for kept in _by_task(job.rows).values() for row in kept[:BASE_ROWS] if not row.example.rejected]
    longest = getattr(algo, "max_completion_tokens", run.model.max_new_tokens)
    sampling = Sampling(getattr(algo, "temperature", 1.0), 1.0, longest, run.seed)
    made: dict[int, Any] = {}
    if distributed.size() == 1:
        whole = min(run.model.context_tokens, run.data_mix.max_prompt_tokens + longest)  # as long as in training
        model = replace(run.model, context_tokens=whole)
        engine = model.engine(job.policy, job.tokenizer, run.hardware, run.eval.batch_tokens)
    else:
        engine = Transformers(job.policy, job.tokenizer, run.model.context_tokens, run.eval.batch_tokens)
    asked = [row for row in rows for _ in range(BASE_SAMPLES)]
    keys = [str(place) for place in range(len(asked))]
    with Progress("audit of the base model", len(asked), unit="completions") as progress:
        for batch in engine.complete([row.messages for row in asked], keys, sampling, tick=progress.partly):
            made |= batch
            progress.update(len(made))
    return [Completion(made[at].text, row, made[at].finished, made[at].tokens) for at, row in enumerate(asked)]


def stop_on(found: Audit, rewards: RewardSet, control: Control = "none") -> None:
    """Stop with a `UserError` on a finding, where the reward set says so; a placebo is not paid what was audited."""
    if found.findings and rewards.audit == "stop" and control == "none":
        listed = "\n".join(f"  {finding.task}: {finding.message}" for finding in found.findings)
        raise UserError(
            f"The reward audit found what training would find:\n{listed}\n"
            "Change the reward set, or set reward_set.audit=warn to train on it all the same."
        )


def gold_text(row: TrainingRow) -> str:
    """The right answer, reasoned for as every probe is."""
    return layout(STEPS[row.task.language], row.task.answer(row.example), row.task.format)


def probes(row: TrainingRow, sample: Sequence[TrainingRow]) -> Iterator[tuple[str, str]]:
    """What may be written to a row, by name. The gold comes first; all others should earn no more. Golds of ``sample``, other
    rows of the same task, serve as wrong answers.
    """
    task, example, form = row.task, row.example, row.task.format
    steps, gold = STEPS[task.language], task.answer(example)
    other = STEPS["zh" if task.language == "en" else "en"]
    others = [each.example for each in sample]
    wrong = task.answers.wrong(example, others)
    yield GOLD, gold_text(row)
    yield "empty", ""
    yield "empty answer", layout(steps, "", form)
    yield "filler without an answer", f"{steps}\n" * 4
    yield "question as the answer", layout(steps, example.question, form)
    if wrong:
        yield WRONG, layout(steps, wrong, form)
        yield "gold only in the thinking", layout(f"{steps}\n<answer>\n{gold}\n</answer>\n{gold}", wrong, form)
        yield "wrong and gold, one by one", layout(steps, wrong, form) + layout(steps, gold, form)
        yield "step markers alone", layout("Step 1: Step 1: Step 1:\n" * 3, wrong, form)
        yield "wrong language, wrong answer", layout(other, wrong, form)
        yield "long filler, wrong answer", layout(f"{steps}\n" * 40, wrong, form)
    yield "gold three times over", gold_text(row) * 3
    yield "wrong language", layout(other, gold, form)
    if every := task.answers.everything(example, others):
        yield "all options", layout(steps, every, form)
    if task.answers.ranked and example.choices[0] != example.gold:
        yield "candidate order, copied", layout(steps, listed(example.choices), form)


def _by_task(rows: Sequence[TrainingRow]) -> dict[str, list[TrainingRow]]:
    """The first different rows of each task."""
    found: dict[str, dict[str, TrainingRow]] = {}
    for row in rows:
        kept = found.setdefault(row.example.task, {})
        if len(kept) < ROWS:
            kept.setdefault(row.example.id, row)
    return {task: list(kept.values()) for task, kept in sorted(found.items())}


def _means(scores: Mapping[str, Scores], totals: Sequence[float]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name, row in scores.items():
        known = [score for score in row if score is not None]
        means[name] = sum(known) / len(known) if known else None
    return {**means, "total": math.fsum(totals) / len(totals)}


def _findings(
    task: str, tried: Mapping[str, Sequence[Completion]], totals: Mapping[str, Sequence[float]], gold_scores: Mapping[str, Scores]
) -> Iterator[Finding]:
    """Where a probe beats the gold of its own row; by the row, because a mean may hide it."""
    if all(score is None for scores in gold_scores.values() for score in scores):
        yield Finding(task, GOLD, "no reward of the set says anything about this task; nothing would be learned from its rows")
        return
    golds = {completion.row.example.id: total for completion, total in zip(tried[GOLD], totals[GOLD], strict=True)}
    ties = []
    for probe, completions in tried.items():
        if not all(map(math.isfinite, totals[probe])):  # no comparison would find it
            yield Finding(task, probe, f"{probe!r} earns what is no number; one of the rewards is not finite")
        paid = [
            (total, golds[completion.row.example.id], completion)
            for completion, total in zip(completions, totals[probe], strict=True)
        ]
        if beaten := [each for each in paid if each[0] > each[1] + TOLERANCE]:
            total, gold, completion = beaten[0]
            yield Finding(
                task,
                probe,
                f"{probe!r} earns more than the gold in {len(beaten)} of {len(completions)} rows "
                f"(example {completion.row.example.id}: {total:.3f} against {gold:.3f})",
            )
        elif all(total >= gold - TOLERANCE and _not_right(completion) for total, gold, completion in paid):
            ties.append(probe)
    if WRONG in ties:
        yield Finding(task, WRONG, "a wrong answer earns what the gold earns: this set does not pay for being right")
    else:
        yield from (Finding(task, probe, f"{probe!r} is not right and earns what the gold earns in every row") for probe in ties)


def _not_right(completion: Completion) -> bool:
    """Not where a judge abstained: nobody knows."""
    return completion.verdict.outcome in ("wrong", "unparsed", "truncated")
