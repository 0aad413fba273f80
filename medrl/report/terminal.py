"""The before/after table on the terminal, and the lines over seeds."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.metrics import over_seeds
from medrl.report import phrases
from medrl.report.phrases import STRICT, Task

NAME, WHAT, COUNT = 18, 26, 5
"""Columns of a task's name and of n, which grow with what they hold, and of what answered, which is cut."""


def table(metrics: Mapping[str, Any], folder: Path) -> str:
    """The table of one run; its first line says where the rows came from."""
    tasks = metrics["tasks"]
    name = max([NAME, *(width(word) for key, task in tasks.items() for word in (key, _scorer(task)))])
    count = max([COUNT, *(len(_asked(task)) for task in tasks.values())])
    chosen_by = "  split: validation" if metrics["eval"].get("split") == "validation" else ""
    lines = ["", f"{metrics['name']}-{metrics['run_id']}  seed {metrics['seed']}  source: {metrics['source']}{chosen_by}", ""]
    shares = f" {'unparsed':>8} {'truncated':>9}" if any(map(phrases.generated, tasks.values())) else ""
    lines += _head(name, count, f"{'accuracy':>8}  {'95 % interval':<16}{shares}") if tasks else []
    for key, task in tasks.items():
        for index, (what, n, cells) in enumerate(_rows(task)):
            label = {0: key, 1: _scorer(task)}.get(index, "")
            lines.append(f"{fitted(label, name)} {fitted(what, WHAT)} {n:>{count}}  {cells}".rstrip())
        lines += [f"{'':<{name}} {remark}" for remark in _remarks(task)] + [""]
    lines += _texts(_perplexities(metrics))
    if steps := metrics["train"]["steps"]:
        seconds, peak = metrics["train"]["seconds"], metrics["cost"]["peak_memory_gib"]
        lines.append(f"{steps} steps in {seconds:.0f} s, peak memory {peak:.1f} GiB")
    if metrics["judge"]:
        lines.append(f"judge: {phrases.judged(metrics['judge'])}")
    lines += [f"warning  step {sign['step']}: {sign['message']}" for sign in metrics["train"]["warnings"]]
    return "\n".join([*lines, f"report: {folder / 'report.html'}"])


def _perplexities(metrics: Mapping[str, Any]) -> Mapping[str, Task]:
    """Of texts; metrics written before text was held out have none."""
    found: Mapping[str, Task] = metrics.get("perplexity", {})
    return found


def _texts(tasks: Mapping[str, Task]) -> list[str]:
    """The table of perplexities, which are no accuracies; empty where no text is held out."""
    if not tasks:
        return []
    name = max([NAME, *map(width, tasks)])
    lines = _head(name, 9, f"{'perplexity':>10}  {'95 % interval':<20} {'bits a byte':>11}", "documents")
    for key, task in tasks.items():
        models = [("before training", task["base"]), ("after training", task)] if task["change"] else [("model", task)]
        for index, (what, numbers) in enumerate(models):
            cells = f"{phrases.perplexity(numbers['perplexity']):>10}  {phrases.text_interval(numbers['ci95']):<20}"
            label = fitted("" if index else key, name)
            lines.append(f"{label} {fitted(what, WHAT)} {task['n']:>9}  {cells} {numbers['bits_per_byte']:>11.3f}")
        lines += [f"{'':<{name}} change {phrases.text_change(task)}"] if task["change"] else []
        lines.append("")
    return lines


def seeds(tables: Sequence[Mapping[str, Any]]) -> str:
    """A line a task over runs that differ in nothing but their seed: the mean accuracy and how far the seeds lie apart.

    Accuracies and perplexities are put together only where the same questions were asked in the same way; a task that some runs
    asked otherwise has a second line. The interval is Student's, cut to 0 and 100 %: of other seeds on the same examples.

    Args:
        tables: ``metrics.json`` of each finished run of the family.
    """
    together: dict[str, dict[int, tuple[str, Task]]] = {}
    order: dict[str, None] = {}
    for metrics in tables:
        asking = {key: value for key, value in metrics["eval"].items() if key not in ("compat", "batch_tokens")}
        for key, task in {**metrics["tasks"], **_perplexities(metrics)}.items():
            asked = [key, asking, *(task.get(part) for part in ("version", "protocol", "scorer", "split", "n"))]
            together.setdefault(json.dumps(asked, sort_keys=True), {})[metrics["seed"]] = (key, task)
            order.setdefault(key)
    found = [(*next(iter(group.values())), dict(sorted(group.items()))) for group in together.values()]
    found.sort(key=lambda line: list(order).index(line[0]))
    name = max([NAME, *(width(key) for key, _, _ in found)])
    count = max([COUNT, *(len(_asked(task)) for _, task, _ in found)])
    lines = ["", f"over seeds, family {tables[0]['family']}", ""]
    lines += _head(name, count, f"{'mean':>8}  {'95 % interval':<16} {'sd':>8} seeds")
    for key, task, group in found:
        what, cells = _spread(task, [each for _, each in group.values()])
        lines.append(f"{fitted(key, name)} {fitted(what, WHAT)} {_asked(task):>{count}}  {cells} {', '.join(map(str, group))}")
    return "\n".join(lines)


def _spread(task: Task, group: Sequence[Task]) -> tuple[str, str]:
    """What is compared over seeds, and its mean, interval and standard deviation."""
    if task["protocol"] == "perplexity":
        spread = over_seeds([each["perplexity"] for each in group])
        interval = spread.ci95 and [max(1.0, spread.ci95.low), spread.ci95.high]
        sd = "-" if spread.sd is None else f"{spread.sd:.2f}"
        return "perplexity", f"{phrases.perplexity(spread.mean):>8}  {phrases.text_interval(interval):<16} {sd:>8}"
    spread = over_seeds([each["accuracy"] for each in group])
    interval = spread.ci95 and [max(0.0, spread.ci95.low), min(1.0, spread.ci95.high)]
    sd = "-" if spread.sd is None else f"{100 * spread.sd:.1f}"
    what = "accuracy" if task["scorer"] == STRICT else task["scorer"]
    return what, f"{spread.mean:>8.1%}  {phrases.interval(interval):<16} {sd:>8}"


def _head(name: int, count: int, cells: str, counted: str = "n") -> list[str]:
    head = f"{'task':<{name}} {'':<{WHAT}} {counted:>{count}}  {cells}"
    return [head, "-" * len(head)]


def _asked(task: Task) -> str:
    """Examples, and completions of each where there are several."""
    return f"{task['n']}" if task.get("samples", 1) == 1 else f"{task['n']}x{task['samples']}"


def _scorer(task: Task) -> str:
    """What graded, below the task's name, wherever that is not the strict grade alone."""
    return "" if task["scorer"] == STRICT and not task["compat"] else f"  {task['scorer']}"


def _rows(task: Task) -> Iterator[tuple[str, str, str]]:
    """What answered, how many examples, and its numbers."""
    if task["change"]:
        yield from _model_rows(phrases.before(task), task, task["base"], "base")
        yield from _model_rows("after training", task, task, "accuracy")
    else:
        yield from _model_rows("model", task, task, "accuracy")
    for what, value in phrases.references(task).items():
        credit = f"credit {value['mean_credit']:.3f}" if "mean_credit" in value and phrases.credit_says_more(task) else ""
        yield what, str(task["n"]), f"{value['accuracy']:>8.1%}  {credit}"


def _model_rows(what: str, task: Task, numbers: Mapping[str, Any], which: str) -> Iterator[tuple[str, str, str]]:
    n, samples = str(task["n"]), task["samples"]
    shares = f"{numbers['unparsed']:>8.1%} {numbers['truncated']:>9.1%}" if phrases.generated(task) else ""
    yield what, _asked(task), f"{_share(numbers):<26} {shares}"
    if phrases.credit_says_more(task):
        interval = phrases.interval(numbers["mean_credit_ci95"], percent=False)
        yield "  mean credit", _asked(task), f"{numbers['mean_credit']:>8.3f}  {interval}"
    if vote := numbers.get("majority_vote"):
        yield f"  majority vote of {samples}", n, _share(vote)
        yield f"  pass@{samples}", n, f"{numbers['pass_at'][str(samples)]:>8.1%}"
    for key, graded in task["compat"].items():
        if graded[which]:
            yield f"  as {key} grades", _asked(task), _share(graded[which])


def _remarks(task: Task) -> Iterator[str]:
    if change := task["change"]:
        interval = " ".join(["", _signed(change["ci95"])]) if change["ci95"] else ""
        yield (
            f"change {100 * change['difference']:+.1f} points{interval}, "
            f"{phrases.p_value(change['p_value'])} ({change['test']}: {change['gained']} gained, {change['lost']} lost)"
        )
    yield phrases.detectable(task)
    if ungraded := phrases.ungraded(task):
        yield ungraded


def _share(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['accuracy']:>8.1%}  {phrases.interval(numbers['ci95'])}"


def _signed(ci95: Sequence[float]) -> str:
    return f"[{100 * ci95[0]:+.1f}, {100 * ci95[1]:+.1f}]"


def width(text: str) -> int:
    """Columns that a text takes on a terminal: two for a wide character, none for a mark on the one before."""
    return sum(_columns(char) for char in text)


def fitted(value: Any, columns: int) -> str:
    """One line of exactly so many columns, cut or padded; what a terminal would obey becomes a question mark."""
    text = "".join(" " if char.isspace() else char if char.isprintable() else "?" for char in str(value))
    room, kept = columns, ""
    for char in text:
        room -= _columns(char)
        if room < 0:
            room += _columns(char)
            break
        kept += char
    return kept + " " * room


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
