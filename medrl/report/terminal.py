"""The before/after table on the terminal, and the table over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.report import phrases, remarks_on
from medrl.report.headline import headlines, shown
from medrl.report.phrases import CHECKPOINT, READABLE, RECIPE, STRICT, UNKNOWN, Task
from medrl.safe_text import printable
from medrl.statistics.metrics import Interval
from medrl.table import placebos
from medrl.table.rows import groups
from medrl.table.table import Cell, Column, Table, terminal_width
from medrl.table.uncertainty import Uncertainty, of_accuracy, of_change, of_values

INTERVAL = Column(f"95 %, {CHECKPOINT}", widest=18)
N = Column("n", right=True)


def table(metrics: Mapping[str, Any], folder: Path, beside: Sequence[Mapping[str, Any]] = ()) -> str:
    """The tables of a run and of finished runs beside it, its placebos among them. The first line says where the rows came from;
    then it says what the numbers may claim, losses first.
    """
    chosen_by = "  split: validation" if metrics["eval"].get("split") == "validation" else ""
    named = f"{metrics['name']}-{metrics['run_id']}  seed {metrics['seed']}{_arm(metrics)}"
    parts = [printable(f"{named}  source: {metrics['source']}{chosen_by}")]
    if claims := headlines(metrics, beside):
        parts.append(shown(claims))
    parts += [each.text(terminal_width()) for each in tables(metrics, beside)]
    lines = [f"{RECIPE}: {UNKNOWN}"] if metrics["train"]["steps"] else []
    if steps := metrics["train"]["steps"]:
        seconds, peak = metrics["train"]["seconds"], metrics["cost"]["peak_memory_gib"]
        written = metrics["cost"].get("generated_tokens")
        lines.append(
            f"{steps} steps in {seconds:.0f} s, peak memory {peak:.1f} GiB"
            + (f", {written:,} tokens generated" if written else "")
        )
    if said := phrases.test_splits(metrics):
        lines.append(said)
    if api := metrics.get("api"):
        lines.append(f"API: {phrases.asked_of(api)}")
    if metrics["judge"]:
        lines.append(f"judge: {phrases.judged(metrics['judge'])}")
    lines += [f"paper: {said}" for said in metrics.get("departures", [])]
    lines += [f"warning  step {sign['step']}: {sign['message']}" for sign in metrics["train"]["warnings"]]
    return "\n" + "\n\n".join([*parts, "\n".join([*map(printable, lines), f"report: {folder / 'report.html'}"])])


def tables(metrics: Mapping[str, Any], beside: Sequence[Mapping[str, Any]] = ()) -> list[Table]:
    """Accuracies, perplexities and the placebos of one run; those that it has."""
    same_seed = [metrics, *(each for each in beside if each["seed"] == metrics["seed"])]
    found = (_accuracies(metrics["tasks"]), _texts(metrics.get("perplexity", {})), placebos.table(same_seed))
    return [each for each in found if each.rows]


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
        "Changes, format and ability": phrases.parts,
        "Answers": phrases.answers,
        "Against the best constant answer": phrases.constant,
        "Cut off": phrases.cut,
        "Shape": phrases.shape,
        "Against references": phrases.against,
        "Ungraded": phrases.ungraded,
        "Groups that lost": remarks_on.harmed,
        "Robustness": remarks_on.robustness,
        "Calibration": remarks_on.calibration,
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


OVER_SEEDS = (
    Column("measure"), N, Column("mean", right=True), Column(f"95 %, {CHECKPOINT}", widest=18),
    Column(f"95 %, {RECIPE}", widest=21), Column("sd", right=True), Column("seeds"),
)  # fmt: skip
"""What ``spreads`` fills, and the seeds."""


def seeds(tables: Sequence[dict[str, Any]]) -> str:
    """Rows of each task over runs of a family, that differ in nothing but their seed: mean, its two intervals, how far the seeds
    lie apart. Accuracies and perplexities are put together only where the same questions were asked in the same way; a task that
    some runs asked otherwise has further rows.
    """
    found = groups(tables)
    rows = []
    for key in dict.fromkeys(group.task for group in found):
        for group in (group for group in found if group.task == key):
            seeds = ", ".join(str(metrics["seed"]) for metrics, _ in group.members)
            rows += [[key, *numbers, seeds] for numbers in spreads([task for _, task in group.members])]
    caption = f"over seeds, family {tables[0]['family']}"
    return "\n" + Table([Column("task"), *OVER_SEEDS], rows, caption).text(terminal_width())


def spreads(group: Sequence[Task]) -> Iterator[list[Cell]]:
    """What is compared over seeds, on how many examples, its mean, both intervals and the standard deviation; both readings."""
    if group[0]["protocol"] == "perplexity":
        own = [each["ci95"] and Interval(*each["ci95"]) for each in group]
        found = of_values([each["perplexity"] for each in group], own)
        ends = [each and (max(1.0, each.low), each.high) for each in found[2:]]
        sd = "-" if found.sd is None else f"{found.sd:.2f}"
        intervals = [phrases.text_interval(ends[0]), phrases.text_interval(ends[1]) if ends[1] else _no_recipe(group)]
        yield ["perplexity", phrases.asked(group[0]), phrases.perplexity(found.mean), *intervals, sd]
        return
    readings = {"": ("accuracy" if group[0]["scorer"] == STRICT else group[0]["scorer"], group)}
    if all("readable" in task for task in group):
        readings["readable_"] = (READABLE, [task["readable"] for task in group])
    for prefix, (what, parts) in readings.items():
        yield _spread(group, what, of_accuracy(group, parts))
        if all(task.get(f"{prefix}change") for task in group):
            yield _spread(group, f"{what}, change", of_change(group, f"{prefix}change"), change=True)


def placebos_over_seeds(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Gain minus placebo of runs of one configuration and its placebos, over the seeds that both have."""
    return "\n" + placebos.table(metrics).text(terminal_width())


def _spread(group: Sequence[Task], what: str, found: Uncertainty, *, change: bool = False) -> list[Cell]:
    low, sign = (-1.0, "+") if change else (0.0, "")
    ends = [each and [100 * min(1.0, max(low, end)) for end in each] for each in found[2:]]
    checkpoint, recipe = (f"[{each[0]:{sign}.1f}, {each[1]:{sign}.1f}]" if each else "" for each in ends)
    sd = "-" if found.sd is None else f"{100 * found.sd:.1f}"
    mean = f"{100 * found.mean:{sign}.1f}{' points' if change else '%'}"
    return [what, phrases.asked(group[0]), mean, checkpoint or "none", recipe or _no_recipe(group), sd]


def _no_recipe(group: Sequence[Task]) -> str:
    return UNKNOWN if len(group) == 1 else "none"


def _scorer(task: Task) -> str:
    """What graded, beside the task's name, wherever that is not the strict grade alone."""
    return "" if task["scorer"] == STRICT and not task["compat"] else f" ({task['scorer']})"


def _rows(task: Task) -> Iterator[list[Cell]]:
    """What answered, how many examples, and its numbers."""
    if task["change"]:
        yield from _model_rows(phrases.before(task), task, task["base"], "base")
        for which, numbers in task.get("earlier", {}).items():
            yield from _model_rows(f"after {which.replace('-', ' ')}", task, numbers, which)
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
        passed = {which: numbers.get(which, {}).get(str(samples)) for which in ("pass_at", "pass_at_ci95")}
        yield [f"  pass@{samples}", task["n"], f"{passed['pass_at']:.1%}", phrases.interval(passed["pass_at_ci95"]), "", ""]
    for key, graded in task["compat"].items():
        if graded.get(which):
            yield [f"  as {key} grades", asked, *_share(graded[which]), "", ""]


def _share(numbers: Mapping[str, Any]) -> list[Cell]:
    return [f"{numbers['accuracy']:.1%}", phrases.interval(numbers["ci95"])]
