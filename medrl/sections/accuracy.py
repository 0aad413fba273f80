"""What the held-out tasks say: in words, as intervals on one axis, as a table, and by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medrl import charts, wording
from medrl.charts import escaped
from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.sections.base import heads, row, signed, table, text
from medrl.wording import STRICT, Task

ANSWER_CHARS = 40
"""What is shown of a majority answer."""

PAIRS = {
    "pairwise": "A preference pair is right where the reward model scores the better answer higher; equal scores are wrong. "
    "It is compared with the same model under a random head, whose accuracy may as well lie below a half as above.",
    "likelihood": "A preference pair is right where a token of the better answer has the higher mean log-probability; equal ones "
    "are wrong.",
}
"""What the other protocols count as right."""


def accuracy(metrics: Mapping[str, Any], tree: Tree, run: Run) -> str:
    """The whole section."""
    tasks = metrics["tasks"]
    if not tasks:
        return "" if metrics.get("perplexity") else "<p>No held-out task was asked.</p>"
    return f"<p>{outcome(tasks)}</p>\n{_forest(tasks)}\n{_table(tasks, tree, run)}\n{_bootstrap(tasks)}"


def outcome(tasks: Mapping[str, Task]) -> str:
    """What training did, in words: a change is named as one only where both the interval and the test say so."""
    said: dict[str, list[str]] = {"rose on": [], "fell on": [], "did not clearly change on": []}
    for name, task in tasks.items():
        if change := task["change"]:
            clear = change["p_value"] < 0.05 and change["ci95"] is not None and change["ci95"][0] * change["ci95"][1] > 0
            verb = "did not clearly change on" if not clear else "rose on" if change["difference"] > 0 else "fell on"
            said[verb].append(f"{escaped(name)} ({signed(change['difference'])} points{_unless_strict(task)})")
    parts = [f"{verb} {', '.join(names)}" for verb, names in said.items() if names]
    if not parts:
        return "One model, not trained here."
    rule = "A change is called clear where its 95 % interval leaves out zero and p is below 0.05."
    return f"After training, accuracy {'; it '.join(parts)}. {rule}"


def _unless_strict(task: Task) -> str:
    """What graded, to stand beside an accuracy."""
    return "" if task["scorer"] == STRICT else f", {escaped(task['scorer'])}"


def _forest(tasks: Mapping[str, Task]) -> str:
    references = {name: _references(task) for name, task in tasks.items()}
    kinds = list(dict.fromkeys(kind for found in references.values() for kind in found))
    panels = []
    for name, task in tasks.items():
        dots = [_dot("base", task["base"]), _dot("trained", task)] if task["change"] else [_dot("trained", task)]
        marks = {kinds.index(kind): value["accuracy"] for kind, value in references[name].items()}
        scorer = "" if task["scorer"] == STRICT else f", {task['scorer']}"
        panels.append(charts.Panel(f"{name}, n = {task['n']}{scorer}", dots, marks))
    trained = any(task["change"] for task in tasks.values())
    dots_key = '<span class="dot"></span> before and <span class="dot full"></span> after training'
    legend = "; ".join(f'<span class="key">{charts.mark(index)}{escaped(kind)}</span>' for index, kind in enumerate(kinds))
    caption = f"Accuracy in per cent {dots_key if trained else 'of the model'}, with 95 % intervals."
    drawn = charts.forest("Accuracy of each task with 95 % intervals; Table 1 holds the numbers", panels)
    return (
        f'<figure><figcaption class="numbered">{caption} Vertical marks need no model: {legend}.</figcaption>'
        f'<div class="axis-both">{drawn}</div></figure>'
    )


def _references(task: Task) -> dict[str, Mapping[str, Any]]:
    """Reference answers by names that are the same for all tasks."""
    majority = f"always {task['reference'].get('majority', {}).get('answer')}"
    return {"majority answer" if kind == majority else kind: value for kind, value in wording.references(task).items()}


def _dot(kind: str, numbers: Mapping[str, Any]) -> charts.Dot:
    value = numbers["accuracy"]
    return charts.Dot(kind, value, *(numbers["ci95"] or (value, value)))


def _table(tasks: Mapping[str, Task], tree: Tree, run: Run) -> str:
    answered = any(wording.generated(task) for task in tasks.values())
    columns = {"unparsed": "Unparsed, %", "truncated": "Cut off, %"} if answered else {}
    if any(numbers["ungraded"] for task in tasks.values() for numbers in (task, task["base"])):
        columns["ungraded"] = "Ungraded, %"
    rows = "".join(_task_rows(name, task, name in run.data_mix.tasks and run.data_mix.tasks[name].ranked, columns)
                   for name, task in tasks.items())  # fmt: skip
    head = heads("Task", "Accuracy, %", "95 % interval", *columns.values(), "Mean tokens")
    return (
        f'<figure><figcaption id="table-1"><b>Table 1.</b> {_caption(tasks, tree, "ungraded" in columns)}</figcaption>'
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="table-1"><table aria-labelledby="table-1">'
        f"<thead><tr>{head}</tr></thead>{rows}</table></div></figure>"
    )


def _caption(tasks: Mapping[str, Task], tree: Tree, ungraded: bool) -> str:
    asked = tree["eval"]
    trained = any(task["change"] for task in tasks.values())
    several = any(task["samples"] > 1 for task in tasks.values())
    said = [f"{'The same examples before and after training' if trained else 'One model'}{_answered(tasks, asked)}."]
    if any(wording.generated(task) for task in tasks.values()):
        said.append("Answers that are unparsed, or cut off by that limit, count as not right.")
    if not all(wording.generated(task) for task in tasks.values()):
        said.append("Tokens of a pair are those that were read of both.")
    said += [sentence for protocol, sentence in PAIRS.items() if any(task["protocol"] == protocol for task in tasks.values())]
    if ungraded:
        said.append("So do ungraded ones, on which the judge gave no verdict.")
    if several:
        said.append(
            f"Accuracy is the mean over all answers. Its intervals{', and those of changes,' if trained else ''} are bootstraps "
            "over examples, because answers to one example are not independent; those of majority votes are Wilson&rsquo;s. "
            "No spread: all examples scored the same, which is no certainty."
        )
    else:
        said.append(f"Intervals of accuracies are Wilson&rsquo;s{', of changes Bonett and Price&rsquo;s' if trained else ''}.")
    if trained:
        tests = " and ".join(dict.fromkeys(task["change"]["test"] for task in tasks.values() if task["change"]))
        test = tests.replace("exact McNemar", "McNemar&rsquo;s exact").replace("sign-flip", "the sign-flip")
        said.append(
            f"p is from {test} two-sided test, not corrected for the number of tasks ({len(tasks)}); gained and lost count "
            "examples."
        )
    said.append("Detectable is the smallest difference that so many examples show in 80 of 100 such trials, tested at 5 %.")
    if any(wording.credit_says_more(task) for task in tasks.values()):
        said.append(
            "Mean credit, from 0 to 1, counts what accuracy does not: for a ranking the inverse rank of the gold, "
            "else 0.5 for the gold amid other words."
        )
    if any(task["compat"] for task in tasks.values()):
        said.append(
            "Rows &ldquo;as &hellip; grades&rdquo; are a paper&rsquo;s own, more lenient grading of the same answers, to compare "
            "with its numbers; no change is taken from them."
        )
    return " ".join(said)


def _answered(tasks: Mapping[str, Task], asked: Mapping[str, Any]) -> str:
    """How answers were sampled; empty where none were."""
    if not any(wording.generated(task) for task in tasks.values()):
        return ""
    times = f" {asked['samples']} times" if asked["samples"] > 1 else ""
    sampling = "greedily" if asked["temperature"] == 0 else f"at temperature {asked['temperature']}, top-p {asked['top_p']}"
    return f", answered{times} {sampling} in at most {asked['max_new_tokens']} tokens"


def _task_rows(name: str, task: Task, ranked: bool, columns: Mapping[str, str]) -> str:
    change, wide = task["change"], len(columns) + 3
    answers = "" if task["samples"] == 1 else f", {task['samples']} answers each"
    about = escaped(f"n = {task['n']}{answers}, {task['split']}, version {task['version']}, {task['protocol']}, ")
    scorer = escaped(task["scorer"]) if task["scorer"] == STRICT else f"<strong>{escaped(task['scorer'])}</strong>"
    rows = [f'<tr class="task"><th scope="rowgroup" colspan="{wide + 1}">{escaped(name)} <span>{about}{scorer}</span></th></tr>']
    if change:
        rows += _model_rows(wording.before(task).capitalize(), "", task, task["base"], "base", ranked, columns)
        rows += _model_rows("After training", "strong", task, task, "accuracy", ranked, columns)
        interval = "none" if change["ci95"] is None else f"[{', '.join(map(signed, change['ci95']))}]"
        said = f"{wording.p_value(change['p_value'])}; {change['gained']} gained, {change['lost']} lost"
        rows.append(
            f'<tr class="change"><th scope="row">Change, points</th><td>{signed(change["difference"])}</td><td>{interval}</td>'
            f'<td class="left" colspan="{wide - 2}">{escaped(said)}</td></tr>'
        )
    else:
        rows += _model_rows("Model", "strong", task, task, "accuracy", ranked, columns)
    for kind, value in _references(task).items():
        label = f"Always “{text(value['answer'], ANSWER_CHARS)}”" if kind == "majority answer" else escaped(kind.capitalize())
        credit = f"credit {value['mean_credit']:.3f}" if "mean_credit" in value and wording.credit_says_more(task) else ""
        rows.append(
            f'<tr class="quiet"><th scope="row">{label}</th><td>{100 * value["accuracy"]:.1f}</td><td>{credit}</td>'
            f'<td colspan="{wide - 2}"></td></tr>'
        )
    rows += [_remark(label, said, wide) for label, said in _remarks(task)]
    return f"<tbody>{''.join(rows)}</tbody>"


def _model_rows(
    label: str,
    style: str,
    task: Task,
    numbers: Mapping[str, Any],
    which: str,
    ranked: bool,
    columns: Mapping[str, str],
) -> Iterator[str]:
    """A model's own row, and below it what else its answers say."""
    shares = [f"{100 * numbers[column]:.1f}" if wording.generated(task) else "" for column in columns]
    named = f"{label}, {escaped(task['scorer'])}" if task["compat"] else label
    yield row(named, [*_share(numbers), *shares, f"{numbers['mean_tokens']:.1f}"], style)

    def under(what: str, cells: list[str]) -> str:
        return row(what, [*cells, *[""] * (len(columns) + 3 - len(cells))], "under")

    if wording.credit_says_more(task):
        interval = wording.interval(numbers["mean_credit_ci95"], percent=False)
        yield under("Mean inverse rank" if ranked else "Mean credit", [f"{numbers['mean_credit']:.3f}", interval])
    if vote := numbers.get("majority_vote"):
        yield under(f"Majority vote of {task['samples']}", _share(vote))
    for k, share in numbers.get("pass_at", {}).items():
        if k != "1":  # which is accuracy
            yield under(f"pass@{k}", [f"{100 * share:.1f}"])
    for key, graded in task["compat"].items():
        if graded[which]:
            yield under(f"As {escaped(key)} grades", _share(graded[which]))


def _share(numbers: Mapping[str, Any]) -> list[str]:
    return [f"{100 * numbers['accuracy']:.1f}", wording.interval(numbers["ci95"])]


def _remarks(task: Task) -> Iterator[tuple[str, str]]:
    if said := wording.first_choice(task):
        yield "Choice shown first", f"named by {said}"
    yield "Detectable", wording.detectable(task)


def _remark(label: str, said: str, wide: int) -> str:
    return f'<tr class="quiet"><th scope="row">{label}</th><td class="left" colspan="{wide}">{escaped(said)}</td></tr>'


def _bootstrap(tasks: Mapping[str, Task]) -> str:
    """The second kind of interval, for who distrusts the first; where there are several answers, it is the first."""
    rows = []
    for name, task in tasks.items():
        if task["samples"] > 1 or task["bootstrap_ci95"] is None:
            continue
        change = task["change"]
        moved = change and change["bootstrap_ci95"]
        cells = [wording.interval(task["base"]["bootstrap_ci95"])] if change else []
        cells.append(wording.interval(task["bootstrap_ci95"]))
        if change:
            cells.append(f"[{', '.join(map(signed, moved))}]" if moved else "none")
        rows.append(row(f"{escaped(name)}{_unless_strict(task)}", cells))
    if not rows:
        return ""
    trained = any(task["change"] for task in tasks.values())
    head = heads("Task", *(["Before, %", "After, %", "Change, points"] if trained else ["Model, %"]))
    caption = "Bias-corrected and accelerated bootstrap over examples, 95 %."
    drawn = table("Bootstrap intervals", head, "".join(rows), caption)
    return f"<details><summary>Bootstrap intervals of the same accuracies</summary>{drawn}</details>"


def groups(metrics: Mapping[str, Any]) -> str:
    """A table a task that has groups; empty where none has."""
    tables = []
    for name, task in metrics["tasks"].items():
        if not task["by_group"]:
            continue
        rows = []
        for group, numbers in task["by_group"].items():
            plot = charts.interval(f"{group}: {100 * numbers['accuracy']:.1f} %", _dot("trained", numbers))
            cells = "".join(f"<td>{cell}</td>" for cell in (numbers["n"], *_share(numbers)))
            rows.append(f'<tr><th scope="row">{escaped(group) or "(none)"}</th>{cells}<td class="plot">{plot}</td></tr>')
        caption = f"Accuracy {'after training' if task['change'] else 'of the model'} in each group{_unless_strict(task)}."
        counted = "1 group" if len(rows) == 1 else f"{len(rows)} groups"
        head = heads("Group", "n", "Accuracy, %", "95 % interval", "0 to 100 %")
        tables.append(
            f"<details{' open' if len(rows) <= 8 else ''}><summary>{escaped(name)}: {counted}</summary>"
            f"{table(f'{name} by group', head, ''.join(rows), caption)}</details>"
        )
    return "\n".join(tables)
