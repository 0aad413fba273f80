"""Tasks -> one JSON line an example -> metrics, for the model before and after training on the same examples."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from medrl import metrics
from medrl.errors import Problem, UserError
from medrl.files import read_jsonl, write_jsonl
from medrl.generate import Sampling
from medrl.prompts import messages
from medrl.tasks.base import Example, Task

if TYPE_CHECKING:
    from medrl.config import Run, Tree

Which = Literal["base", "trained"]


@dataclass(frozen=True, kw_only=True)
class Eval:
    """How held-out tasks are asked. No part of the run's id: asking again does not change what was learned."""

    limit: Annotated[int, Gt(0)] | None
    """First so many examples of each task; null asks all."""
    max_new_tokens: Annotated[int, Gt(0)]
    temperature: Annotated[float, Ge(0)]
    """0 is greedy."""
    top_p: Annotated[float, Gt(0), Le(1)]
    batch_tokens: Annotated[int, Gt(0)]
    """Most tokens of a generation batch, padding and completions included."""

    def problems(self, run: Run) -> Iterator[Problem]:
        if self.max_new_tokens >= run.model.context_tokens:
            yield Problem(
                "max_new_tokens", f"{self.max_new_tokens} leaves no room for a prompt in {run.model.context_tokens} tokens"
            )

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, seed)


def result_files(tree: Tree, run: Run, which: Which) -> dict[str, str]:
    """File name of each task's results. The hash covers all that can change a line, so that no stale line is read."""
    asked = {"which": which, "eval": tree["eval"], "source": tree["source"], "seed": tree["seed"]}
    if which == "base":
        asked["model"] = tree["model"]
    names = {}
    for name in run.data_mix.held_out:
        about = {**asked, "task": tree["data_mix"]["tasks"][name], "format": run.data_mix.format}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        names[name] = f"{name}-v{run.data_mix.tasks[name].version}-{which}-{digest}.jsonl"
    return names


def missing(tree: Tree, run: Run, which: Which, folder: Path) -> bool:
    """Whether any held-out task still has to be asked."""
    return any(not (folder / file).exists() for file in result_files(tree, run, which).values())


def held_out(run: Run, name: str) -> list[Example]:
    """The examples of one held-out task, in published order.

    Raises:
        UserError: there is none.
    """
    examples = list(run.data_mix.tasks[name].examples(run.source, "test"))
    if not examples:
        raise UserError(f"The test split of {name} has no rows; take it out of data_mix.held_out or choose another source.")
    return examples[: run.eval.limit]


def answer_tasks(tree: Tree, run: Run, which: Which, policy: Any, tokenizer: Any, folder: Path) -> None:
    """Ask one model every held-out task and write a line an example; what was answered before is not asked again."""
    from medrl.generate import engine

    folder.mkdir(exist_ok=True)
    generator = engine(run, policy, tokenizer)
    for name, file in result_files(tree, run, which).items():
        if not (folder / file).exists():
            _answer_task(run, name, which, generator, folder / file)


def _answer_task(run: Run, name: str, which: Which, generator: Any, path: Path) -> None:
    from tqdm import tqdm

    task, examples = run.data_mix.tasks[name], held_out(run, name)
    prompts = [messages(example, task, run.data_mix.format) for example in examples]
    lines: dict[int, dict[str, Any]] = {}
    with tqdm(total=len(examples), desc=f"{which} {name}", unit="example") as bar:
        for batch in generator.complete(prompts, run.eval.sampling(run.seed)):
            for position, made in batch.items():
                lines[position] = _line(run, task, examples[position], prompts[position], made)
            bar.update(len(batch))
    write_jsonl(path, (lines[position] for position in range(len(examples))))


def _line(run: Run, task: Task, example: Example, prompt: Any, made: Any) -> dict[str, Any]:
    verdict = task.grade(made.text, example, run.data_mix.format, finished=made.finished)
    return {
        "id": example.id,
        "prompt": prompt,
        "text": made.text,
        "answer": verdict.answer,
        "gold": example.gold,
        "verdict": verdict.outcome,
        "credit": verdict.credit,
        "tokens": made.tokens,
        "group": example.group,
        "options": len(task.options(example)),
    }


def summarise(tree: Tree, run: Run, folder: Path) -> dict[str, Any]:
    """Metrics of every held-out task from the lines on disk."""
    base_files = result_files(tree, run, "base")
    trained_files = result_files(tree, run, "trained")
    summary = {}
    for name in run.data_mix.held_out:
        before = read_jsonl(folder / base_files[name])
        after = read_jsonl(folder / trained_files[name]) if run.algo.trains else before
        summary[name] = _metrics(run, name, before, after)
    return summary


def _metrics(run: Run, name: str, before: Sequence[Any], after: Sequence[Any]) -> dict[str, Any]:
    task = run.data_mix.tasks[name]
    if [line["id"] for line in before] != [line["id"] for line in after]:
        raise UserError(
            f"The results of {name} before and after training are not of the same examples; remove the run's eval folder."
        )
    golds = [line["gold"] for line in after]
    favourite, share = metrics.majority(golds)
    summary: dict[str, Any] = {
        "version": task.version,
        "protocol": "generative",
        "split": task.test,
        "n": len(after),
        **_accuracy(after),
        "by_group": _by_group(after),
        "base": _accuracy(before),
        "change": None,
        "reference": {
            "majority": {"answer": favourite, "accuracy": share},
            "random": metrics.random_guess([line["options"] for line in after]),
        },
    }
    if run.algo.trains:
        change = metrics.paired_change(_right(before), _right(after))
        summary["change"] = {**change._asdict(), "ci95": list(change.ci95)}
    return summary


def _right(lines: Sequence[Any]) -> list[bool]:
    return [line["verdict"] == "right" for line in lines]


def _accuracy(lines: Sequence[Any]) -> dict[str, Any]:
    n, outcomes = len(lines), Counter(line["verdict"] for line in lines)
    return {
        "accuracy": outcomes["right"] / n,
        "ci95": list(metrics.wilson(outcomes["right"], n)),
        "unparsed": outcomes["unparsed"] / n,
        "truncated": outcomes["truncated"] / n,
        "mean_tokens": sum(line["tokens"] for line in lines) / n,
    }


def _by_group(lines: Sequence[Any]) -> dict[str, Any]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for line, right in zip(lines, _right(lines), strict=True):
        groups[line["group"]].append(right)
    if set(groups) == {""}:
        return {}
    return {
        group: {"n": len(rights), "accuracy": sum(rights) / len(rights), "ci95": list(metrics.wilson(sum(rights), len(rights)))}
        for group, rights in sorted(groups.items())
    }
