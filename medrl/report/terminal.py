"""The before/after table on the terminal, and the table over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.report import phrases
from medrl.report.phrases import READABLE, STRICT, Task
from medrl.statistics.metrics import over_seeds
from medrl.table.rows import groups
from medrl.table.table import Cell, Column, Table, terminal_width

INTERVAL = Column("95 % interval")
N = Column("n", right=True)


def table(metrics: Mapping[str, Any], folder: Path) -> str:
    """The tables of one run; its first line says where the rows came from."""
    chosen_by = "  split: validation" if metrics["eval"].get("split") == "validation" else ""
    parts = [
        f"{metrics['name']}-{metrics['run_id']}  seed {metrics['seed']}{_arm(metrics)}  source: {metrics['source']}{chosen_by}"
    ]
    parts += [
        each.text(terminal_width())
        for each in (_accuracies(metrics["tasks"]), _texts(metrics.get("perplexity", {})))
        if each.rows
    ]
    lines = []
    if steps := metrics["train"]["steps"]:
        seconds, peak = metrics["train"]["seconds"], metrics["cost"]["peak_memory_gib"]
        lines.append(f"{steps} steps in {seconds:.0f} s, peak memory {peak:.1f} GiB")
    if metrics["judge"]:
        lines.append(f"judge: {phrases.judged(metrics['judge'])}")
    lines += [f"paper: {said}" for said in metrics.get("departures", [])]
    lines += [f"warning  step {sign['step']}: {sign['message']}" for sign in metrics["train"]["warnings"]]
    return "\n" + "\n\n".join([*parts, "\n".join([*lines, f"report: {folder / 'report.html'}"])])


def _arm(metrics: Mapping[str, Any]) -> str:
    """Which placebo a run is; empty for one with its own rewards."""
    return "" if metrics.get("control") in (None, "none") else f"  placebo: control={metrics['control']}"


def _accuracies(tasks: Mapping[str, Task]) -> Table:
    """A group of rows for each task, with what training changed below."""
    shares = any(map(phrases.generated, tasks.values()))
    columns = [Column("task"), Column("answered by"), N, Column("accuracy", right=True), INTERVAL]
    columns += [Column("unparsed", right=True), Column("truncated", right=True)] if shares else []
    rows = [[f"{key}{_scorer(task)}", *row][: len(columns)] for key, task in tasks.items() for row in _rows(task)]
    remarks = {
        "Changes": phrases.change_by_test,
        "Changes as a reader finds them": phrases.readable_change,
        "Shape": phrases.shape,
        "Power": phrases.detectable,
        "Ungraded": phrases.ungraded,
    }
    notes = _notes(tasks, remarks)
    return Table(columns, rows, groups=1, notes=notes)


def _notes(tasks: Mapping[str, Task], remarks: Mapping[str, Callable[[Task], str]]) -> dict[str, list[str]]:
    """What else there is to say of each task, by heading; empty remarks are left out."""
    notes = {title: [f"{key}: {said}" for key, task in tasks.items() if (said := of(task))] for title, of in remarks.items()}
    return {title: lines for title, lines in notes.items() if lines}


def _texts(tasks: Mapping[str, Task]) -> Table:
    """Perplexities, which are no accuracies."""
    columns = [Column("task"), Column("model"), Column("documents", right=True), Column("perplexity", right=True), INTERVAL]
    rows: list[list[Cell]] = []
    for key, task in tasks.items():
        models = [("before training", task["base"]), ("after training", task)] if task["change"] else [("model", task)]
        for which, numbers in models:
            shown = [phrases.perplexity(numbers["perplexity"]), phrases.text_interval(numbers["ci95"])]
            rows.append([key, which, task["n"], *shown, numbers["bits_per_byte"]])
    columns.append(Column("bits a byte", right=True, spec=".3f"))
    return Table(columns, rows, groups=1, notes=_notes(tasks, {"Changes": phrases.change_by_test}))


def seeds(tables: Sequence[dict[str, Any]]) -> str:
    """A row a task over runs that differ in nothing but their seed: the mean accuracy and how far the seeds lie apart.

    Accuracies and perplexities are put together only where the same questions were asked in the same way; a task that some runs
    asked otherwise has a second row. The interval is Student's, cut to 0 and 100 %: of other seeds on the same examples.

    Args:
        tables: ``metrics.json`` of each finished run of the family.
    """
    columns = [
        Column("task"), Column("measure"), N, Column("mean", right=True), INTERVAL, Column("sd", right=True), Column("seeds"),
    ]  # fmt: skip
    found = groups(tables)
    rows = []
    for key in dict.fromkeys(group.task for group in found):
        for group in (group for group in found if group.task == key):
            seeds = ", ".join(str(metrics["seed"]) for metrics, _ in group.members)
            rows += [[key, *numbers, seeds] for numbers in spreads([task for _, task in group.members])]
    caption = f"over seeds, family {tables[0]['family']}"
    return "\n" + Table(columns, rows, caption).text(terminal_width())


def spreads(group: Sequence[Task]) -> Iterator[list[Cell]]:
    """What is compared over seeds, on how many examples, and its mean, interval and standard deviation; both readings."""
    yield _spread(group)
    if all("readable" in task for task in group):
        yield _spread(group, readable=True)


def _spread(group: Sequence[Task], *, readable: bool = False) -> list[Cell]:
    task, text = group[0], group[0]["protocol"] == "perplexity"
    numbers = [each["readable"] if readable else each for each in group]
    found = over_seeds([each["perplexity" if text else "accuracy"] for each in numbers])
    low, high = (1.0, float("inf")) if text else (0.0, 1.0)
    ends = found.ci95 and [min(max(end, low), high) for end in found.ci95]
    if text:
        sd = "-" if found.sd is None else f"{found.sd:.2f}"
        return ["perplexity", phrases.asked(task), phrases.perplexity(found.mean), phrases.text_interval(ends), sd]
    sd = "-" if found.sd is None else f"{100 * found.sd:.1f}"
    what = READABLE if readable else "accuracy" if task["scorer"] == STRICT else task["scorer"]
    return [what, phrases.asked(task), f"{found.mean:.1%}", phrases.interval(ends), sd]


def _scorer(task: Task) -> str:
    """What graded, beside the task's name, wherever that is not the strict grade alone."""
    return "" if task["scorer"] == STRICT and not task["compat"] else f" ({task['scorer']})"


def _rows(task: Task) -> Iterator[list[Cell]]:
    """What answered, how many examples, and its numbers."""
    if task["change"]:
        yield from _model_rows(phrases.before(task), task, task["base"], "base")
        yield from _model_rows("after training", task, task, "accuracy")
    else:
        yield from _model_rows("model", task, task, "accuracy")
    for what, value in phrases.references(task).items():
        credit = f"credit {value['mean_credit']:.3f}" if "mean_credit" in value and phrases.credit_says_more(task) else ""
        yield [what, task["n"], f"{value['accuracy']:.1%}", credit, "", ""]


def _model_rows(what: str, task: Task, numbers: Mapping[str, Any], which: str) -> Iterator[list[Cell]]:
    asked, samples = phrases.asked(task), task["samples"]
    shares = [f"{numbers[share]:.1%}" if phrases.generated(task) else "" for share in ("unparsed", "truncated")]
    yield [what, asked, *_share(numbers), *shares]
    if found := numbers.get("readable"):
        yield ["  as a reader finds it", asked, *_share(found), f"{found['unparsed']:.1%}", ""]
    if phrases.credit_says_more(task):
        interval = phrases.interval(numbers["mean_credit_ci95"], percent=False)
        yield ["  mean credit", asked, f"{numbers['mean_credit']:.3f}", interval, "", ""]
    if vote := numbers.get("majority_vote"):
        yield [f"  majority vote of {samples}", task["n"], *_share(vote), "", ""]
        yield [f"  pass@{samples}", task["n"], f"{numbers['pass_at'][str(samples)]:.1%}", "", "", ""]
    for key, graded in task["compat"].items():
        if graded[which]:
            yield [f"  as {key} grades", asked, *_share(graded[which]), "", ""]


def _share(numbers: Mapping[str, Any]) -> list[Cell]:
    return [f"{numbers['accuracy']:.1%}", phrases.interval(numbers["ci95"])]
