"""The policy's own completions, graded: what DPO, KTO, ORPO, iterative DPO and rejection sampling learn from."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from annotated_types import Gt

from medrl.algos import token_budget
from medrl.algos.base import Footprint, Job, SamplingAlgo
from medrl.algos.pairs import Pair, check_published_pairs, pairs_of, published_pair
from medrl.config.bounds import COMPLETIONS
from medrl.errors import Problem, UserError
from medrl.files import appending, read_jsonl, write_jsonl
from medrl.tasks.base import Kind
from medrl.tracking import run_folder
from medrl.training.distributed import rank, size, wait_for_all

if TYPE_CHECKING:
    from medrl.config.sections import Sections
    from medrl.data.mix import TrainingRow
    from medrl.models.generation import Generated, Sampling
    from medrl.rewards.base import Completion

NOTHING = {"prompt": ".", **dict.fromkeys(("chosen", "rejected", "completion"), " a")}
"""A row that TRL's preference trainers are made with and nothing is learned from. Most tokenizers have a token for two dots, and
a prompt whose end becomes one token with what follows makes TRL warn that the model learns another context than it will see."""
Row = TypeVar("Row")
Sample = Mapping[str, Any]
"""One graded completion as ``samples.jsonl`` holds it: ``row`` (its place among the rows asked), ``task``, ``id``, ``text``,
``finished``, ``tokens``, ``reward``, the ``outcome`` of the task's own grade, and whether the reward set calls it ``right``
(in a placebo arm another thing; null where a judge abstained)."""
Grade = Callable[[Job, "Mapping[int, Generated]", "Sequence[tuple[int, TrainingRow]]"], Iterator[dict[str, Any]]]
"""From completions by their position, and the row of each position with its place, to their lines."""


@dataclass(frozen=True, kw_only=True)
class SelfSampled(SamplingAlgo):
    """What algorithms share that sample completions, grade them with the reward set, and learn from what they are then."""

    samples_itself: ClassVar[bool] = True
    bounds_generation: ClassVar[str] = "prompts"

    prompts: Annotated[int, Gt(0)]
    """Rows of the mix that are sampled, the first ones."""
    num_generations: Annotated[int, Gt(1), COMPLETIONS]
    """Completions sampled for each."""

    @property
    def least_rows(self) -> int:
        """One; `check_enough` counts what they give."""
        return 1

    def problems(self, run: Sections) -> Iterator[Problem]:
        yield from super().problems(run)
        if self.prompts > run.data_mix.rows:
            yield Problem("prompts", f"is {self.prompts}, the mix draws data_mix.rows={run.data_mix.rows}")

    def generated_tokens(self, log: Sequence[Mapping[str, Any]], work: Path) -> int:
        """Those of all samples that lie in ``work``; the log is of the steps that are made of them."""
        return sum(tokens_of(read_jsonl(path)) for path in work.glob("**/samples.jsonl"))

    def most_generated_tokens(self, run: Sections) -> int | None:
        return self.prompts * self.num_generations * self.max_completion_tokens

    def samples(self, job: Job, rows: Sequence[TrainingRow], path: Path, seed: int, spent: int = 0) -> list[Sample]:
        """`sampled` ``num_generations`` times of each row, paid by the reward set; of the first rows alone where
        ``max_generated_tokens`` ends it, of which so many are ``spent`` before.
        """
        budget = self.max_generated_tokens
        left = budget and budget - spent
        samples = sampled(job, rows, path, self.num_generations, self.sampling(seed), _graded, budget=left)
        made = spent + tokens_of(samples)
        if budget and made >= budget:
            ends = f"sampling ends after {len(samples) // self.num_generations} of {len(rows)} prompts"
            print(f"sample   {made:,} tokens are generated, algo.max_generated_tokens={budget}: {ends}", flush=True)
        return samples

    def check_enough(self, rows: Sequence[Any], what: str) -> None:
        """Raises `UserError` where there is less than a batch to learn from."""
        if len(rows) < self.batch_size:
            raise UserError(
                f"{self.prompts} prompts gave {len(rows)} {what}, fewer than one batch of {self.batch_size}; raise algo.prompts"
                f"{', algo.max_generated_tokens' * bool(self.max_generated_tokens)}, algo.num_generations or algo.temperature, "
                "or lower algo.batch_size."
            )


@dataclass(frozen=True, kw_only=True)
class SelfSampledPreference(SelfSampled):
    """What algorithms share that learn from the better and the worse of their samples.

    Rows that are preference pairs themselves are taken as they are.
    """

    row_kinds: ClassVar[tuple[Kind, ...]] = ("question", "preference")

    def num_rows(self, run: Sections) -> int:
        """A prompt gives one pair at most."""
        return self.prompts

    def footprint(self, run: Sections, known: int) -> Footprint:
        return Footprint(
            tokens=known + self.max_completion_tokens,
            scored=self.max_completion_tokens,
            sequences=2,  # the better and the worse answer
            frozen=int(run.model.lora is None),  # an adapter is switched off instead
        )

    def check_rows(self, rows: Sequence[TrainingRow], tokenizer: Any) -> None:
        check_published_pairs(rows)

    def pairs(
        self, job: Job, folder: Path, rows: Sequence[TrainingRow], seed: int, spent: int = 0
    ) -> tuple[list[Pair], dict[str, Any]]:
        """Best against worst of each prompt whose samples differ in reward, and what there was of what; ``spent`` is as in
        `samples`.

        The samples are kept in ``folder/samples.jsonl``, the pairs in ``folder/pairs.jsonl``.

        Returns:
            The pairs in the order of the rows, and their figures for people and for ``rounds.jsonl``.
        """
        asked = [row for row in rows if not row.example.rejected]
        samples = self.samples(job, asked, folder / "samples.jsonl", seed, spent)
        asked = asked[: len(samples) // self.num_generations]
        made, equal = pairs_of(samples, asked, self.num_generations, seed)
        ready = [published_pair(row) for row in rows if row.example.rejected]
        pairs, left_out = _usable(job, [*ready, *made])
        left_out["same_tokens"] += equal
        if rank() == 0:
            write_jsonl(folder / "pairs.jsonl", pairs)
        figures = _figures(samples, len(asked), made) | {"given": len(ready), **left_out}
        figures["pairs"] = len(pairs)
        print(describe(figures), flush=True)
        return pairs, figures

    def trainer(self, kind: Any, config: Any, job: Job, rows: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        """One of TRL's preference trainers on tokens.

        They take text, and each makes tokens of it in its own way (ORPO's puts a BOS before it, whatever the tokenizer does).
        So they are made with a row that is none, and then read ours, in the columns that each makes for itself.
        """
        from datasets import Dataset

        nothing = Dataset.from_list([{**NOTHING, "label": True}])
        options = {"peft_config": job.run.model.adapter_config(), **options}
        trainer = kind(model=job.policy, args=config, train_dataset=nothing, processing_class=job.tokenizer, **options)
        trainer.train_dataset = Dataset.from_list([dict(row) for row in whole_batches(rows, self.batch_size)])
        return trainer


def sampled(
    job: Job,
    rows: Sequence[TrainingRow],
    path: Path,
    count: int,
    sampling: Sampling,
    grade: Grade,
    key: str = "",
    budget: int | None = None,
) -> list[Sample]:
    """``count`` completions of each row, graded, in the order of the rows; kept in ``path`` and read back. They are written to
    ``<path>.begun`` as they are made, so that a killed sampling goes on where it was. In several processes each samples every so
    many-th row with its own copy of the policy, and the first puts them together. ``key`` stands before each key by which a
    completion is drawn, so that two samplings of one seed are two.

    Sampling ends with the row with which a ``budget`` of tokens is reached. So that no more are drawn, whatever the batches and
    processes are, rows are taken in rounds: as many at once as cannot spend what is left, and one where that is less than one.
    """
    number, processes = rank(), size()
    whole = path.exists()
    wait_for_all()  # before the first process writes it, which it does at once where there are no rows
    if not whole:
        shares = [path.with_name(f"{path.name}.begun-{of}-of-{processes}") for of in range(processes)]
        made: list[dict[str, Any]] = []
        end, most = 0, count * sampling.max_new_tokens
        while end < len(rows) and (budget is None or tokens_of(made) < budget):
            end = len(rows) if budget is None else min(len(rows), end + max(1, (budget - tokens_of(made)) // most))
            _sample_share(job, [*enumerate(rows[:end])][number::processes], shares[number], count, sampling, grade, key)
            wait_for_all()
            lines = [line for share in shares for line in read_jsonl(share, needs=("row", "position"))]
            made = [line for line in lines if line["row"] < end]  # of a killed sampling there may be more
            wait_for_all()  # before another process writes on
        if number == 0:
            made.sort(key=lambda line: (line["row"], line["position"]))
            write_jsonl(path, ({key: line[key] for key in line if key != "position"} for line in made))
            run_folder.note_made(path)
            for share in path.parent.glob(f"{path.name}.begun-*"):
                share.unlink()
        wait_for_all()
    return read_jsonl(path)


def _sample_share(
    job: Job, share: Sequence[tuple[int, TrainingRow]], begun: Path, count: int, sampling: Sampling, grade: Grade, key: str
) -> None:
    from medrl.report.progress import Progress

    asked = [entry for entry in share for _ in range(count)]
    done = {line["position"] for line in read_jsonl(begun, needs=("row", "position"))}
    engine = job.run.model.engine(job.policy, job.tokenizer, job.run.hardware, job.run.eval.batch_tokens)
    made = len(done)
    progress = Progress("sample", len(asked), made, "completions", shown=rank() == 0)
    with progress, appending(begun) as file:
        prompts = [row.messages for _, row in asked]
        keys = [f"{key}{place}/{sample}" for place, _ in share for sample in range(count)]
        for batch in engine.complete(prompts, keys, sampling, done, progress.partly):
            for line in grade(job, batch, asked):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            made += len(batch)
            progress.update(made)


def check_desirable(algo: Any, run: Sections) -> Iterator[Problem]:
    """A problem for each task whose answers nothing grades, where ``algo.desirable_reward`` does not say which are good."""
    for name, weight in run.data_mix.weights.items():
        task = run.data_mix.tasks.get(name)
        if weight > 0 and task and task.row_kind == "question" and not task.answers.graded and algo.desirable_reward is None:
            yield Problem(
                "desirable_reward",
                f"is null, and nothing grades the answers to {name}; set the reward from which one is good",
            )


def desirable(sample: Sample, reward: float | None) -> bool | None:
    """Whether a completion is a good one; None where a judge left it open. A good one is paid ``reward`` at least, and has ended
    by itself; without ``reward`` it is one that the reward set calls right.
    """
    if reward is None:
        right: bool | None = sample["right"]
        return right
    return bool(sample["finished"] and sample["reward"] >= reward)


def whole_batches(rows: Sequence[Row], size: int) -> list[Row]:
    """Rows filled up to whole batches with the first of them.

    A loss is the mean over micro-batches, which is the mean over rows where all are of one size. Of a smaller last batch, what
    a row weighs would depend on how it is split.
    """
    return [*rows, *rows[: -len(rows) % size]]


def as_tokens(job: Job, pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
    """Pairs in the columns of TRL's DPOTrainer: ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``."""
    rows = []
    for pair in pairs:
        chosen, rejected = (job.rendering.tokens(pair["prompt"], pair[side]) for side in ("chosen", "rejected"))
        rows.append({"prompt_ids": chosen.prompt, "chosen_ids": chosen.completion, "rejected_ids": rejected.completion})
    return rows


def reference(job: Job) -> Any:
    """A copy of the policy to measure from; None where an adapter is trained, because without it the policy is the reference.

    TRL would load the reference by the name of the weights: without the revision, and from nowhere for a fresh model.
    """
    return None if job.run.model.lora else copy.deepcopy(job.policy)


def describe(figures: Mapping[str, Any]) -> str:
    """The figures of a sampling for the terminal."""
    parts = []
    if figures["samples"]:
        parts += [
            f"{figures['samples']} completions to {figures['prompts']} prompts, mean reward {figures['mean_reward']:.3f}",
            f"{figures['right'] or 0:.1%} of them right",
            f"{figures['without_pair']:.1%} of the prompts gave no pair",
        ]
    counts = {"given": "pairs of the data set", "same_tokens": "left out as the same tokens", "too_long": "left out as too long"}
    parts += [f"{figures[key]} {label}" for key, label in counts.items() if figures[key]]
    return "; ".join([f"pairs    {figures['pairs']}", *parts])


def _graded(job: Job, made: Mapping[int, Generated], asked: Sequence[tuple[int, TrainingRow]]) -> Iterator[dict[str, Any]]:
    completions, lines = lines_of(made, asked)
    rewards = job.run.reward_set
    graded = zip(lines, completions, rewards.totals(completions), rewards.right(completions), strict=True)
    for line, completion, total, right in graded:
        yield {**line, "reward": total, "outcome": completion.verdict.outcome, "right": right}


def tokens_of(samples: Sequence[Sample]) -> int:
    """Tokens of completions with their closing ones, which ``tokens`` of a sample leaves out."""
    return sum(each["tokens"] + each["finished"] for each in samples)


def lines_of(
    made: Mapping[int, Generated], asked: Sequence[tuple[int, TrainingRow]]
) -> tuple[list[Completion], list[dict[str, Any]]]:
    """Completions as rewards read them, and their lines before anything is graded."""
    from medrl.rewards.base import Completion

    completions, lines = [], []
    for position, each in made.items():
        place, row = asked[position]
        completions.append(Completion(each.text, row, each.finished, each.tokens))
        about = {"position": position, "row": place, "task": row.example.task, "id": row.example.id}
        lines.append({**about, "text": each.text, "finished": each.finished, "tokens": each.tokens})
    return completions, lines


def _usable(job: Job, pairs: Sequence[Pair]) -> tuple[list[Pair], dict[str, int]]:
    """Pairs of two answers whose longer one fits in the model's context, none cut; and how many are left out for what."""
    kept, left_out = [], {"same_tokens": 0, "too_long": 0}
    for pair, row in zip(pairs, as_tokens(job, pairs), strict=True):
        longer = max(len(row["chosen_ids"]), len(row["rejected_ids"]))
        if row["chosen_ids"] == row["rejected_ids"]:
            left_out["same_tokens"] += 1
        elif len(row["prompt_ids"]) + longer > job.run.model.context_tokens:
            left_out["too_long"] += 1
        else:
            kept.append(pair)
    return kept, left_out


def _figures(samples: Sequence[Sample], prompts: int, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Means over samples and over pairs made of them; null where there are none."""
    graded = [sample for sample in samples if sample["outcome"] != "ungraded"]
    return {
        "prompts": prompts,
        "samples": len(samples),
        token_budget.LOGGED: tokens_of(samples),
        "without_pair": 1 - len(pairs) / prompts if prompts else None,
        "mean_reward": mean([sample["reward"] for sample in samples]),
        "reward_chosen": mean([pair["reward_chosen"] for pair in pairs]),
        "reward_rejected": mean([pair["reward_rejected"] for pair in pairs]),
        "right": mean([sample["outcome"] == "right" for sample in graded]),
    }


def mean(values: Sequence[float]) -> float | None:
    """None of none."""
    return sum(values) / len(values) if values else None
