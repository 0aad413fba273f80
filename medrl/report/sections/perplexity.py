"""How well held-out text is predicted: in words, as a table, and by source of the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrl.report import phrases
from medrl.report.charts import escaped
from medrl.report.html import heads, row, table
from medrl.report.phrases import Task

MINUS = "\N{MINUS SIGN}"


def perplexity(metrics: Mapping[str, Any]) -> str:
    """The whole section; empty where no text is held out."""
    tasks: Mapping[str, Task] = metrics.get("perplexity", {})
    if not tasks:
        return ""
    return f"<p>{outcome(tasks)}</p>\n{_table(tasks)}\n{_groups(tasks)}"


def outcome(tasks: Mapping[str, Task]) -> str:
    """What training did, in words, by the rule of accuracies."""
    said: dict[str, list[str]] = {"fell on": [], "rose on": [], "did not clearly change on": []}
    for name, task in tasks.items():
        if change := task["change"]:
            ends = change["ci95"]
            clear = change["p_value"] < 0.05 and ends is not None and ends[0] * ends[1] > 0
            verb = "did not clearly change on" if not clear else "fell on" if change["difference"] < 0 else "rose on"
            values = [phrases.perplexity(numbers["perplexity"]) for numbers in (task["base"], task)]
            said[verb].append(f"{escaped(name)} (from {' to '.join(values)})")
    parts = [f"{verb} {', '.join(names)}" for verb, names in said.items() if names]
    if not parts:
        return "One model, not trained here."
    rule = "A change is called clear where its 95 % interval leaves out zero and p is below 0.05."
    return f"After training, perplexity {'; it '.join(parts)}. {rule}"


def _table(tasks: Mapping[str, Task]) -> str:
    head = heads("Task", "Perplexity", "95 % interval", "Nats a token", "Bits a byte")
    trained = any(task["change"] for task in tasks.values())
    caption = (
        "Perplexity is exp of the mean negative log-likelihood of a token, over all tokens of all documents, each given the "
        "words before it; of a conversation, of the last answer. It depends on the tokenizer, bits a byte do not. "
        "A document longer than the model&rsquo;s context is read in windows that overlap by half, so that no token is left out. "
        "Intervals are bootstraps over documents"
        + (", paired for changes; p is from the sign-flip two-sided test over documents." if trained else ".")
    )
    rows = "".join(_task_rows(name, task) for name, task in tasks.items())
    return table("Perplexity of held-out text", head, rows, caption)


def _task_rows(name: str, task: Task) -> str:
    about = escaped(f"n = {task['n']} documents of {task['tokens']:,} tokens, {task['split']}, version {task['version']}")
    rows = [f'<tr class="task"><th scope="rowgroup" colspan="5">{escaped(name)} <span>{about}</span></th></tr>']
    if change := task["change"]:
        rows += [row("Before training", _cells(task["base"])), row("After training", _cells(task), "strong")]
        interval = "none" if change["ci95"] is None else f"[{', '.join(map(_nats, change['ci95']))}]"
        said = f"{phrases.p_value(change['p_value'])}; lower in {change['lower']}, higher in {change['higher']}"
        rows.append(
            f'<tr class="change"><th scope="row">Change, nats a token</th><td>{_nats(change["difference"])}</td>'
            f'<td>{interval}</td><td class="left" colspan="2">{escaped(said)}</td></tr>'
        )
    else:
        rows.append(row("Model", _cells(task), "strong"))
    return f"<tbody>{''.join(rows)}</tbody>"


def _cells(numbers: Mapping[str, Any]) -> list[str]:
    return [
        phrases.perplexity(numbers["perplexity"]),
        phrases.text_interval(numbers["ci95"]),
        f"{numbers['nll_per_token']:.3f}",
        f"{numbers['bits_per_byte']:.3f}",
    ]


def _nats(difference: float) -> str:
    return f"{difference:+.3f}".replace("-", MINUS)


def _groups(tasks: Mapping[str, Task]) -> str:
    """A table a task whose documents come from named sources."""
    tables = []
    for name, task in tasks.items():
        trained = bool(task["change"])
        rows = []
        for group, numbers in task["by_group"].items():
            values = [numbers["base"], numbers] if trained else [numbers]
            shown = [
                cell for each in values for cell in (phrases.perplexity(each["perplexity"]), phrases.text_interval(each["ci95"]))
            ]
            rows.append(row(escaped(group) or "(none)", [f"{numbers['n']:,}", *shown]))
        if rows:
            kinds = ["Before", "After"] if trained else ["Perplexity"]
            head = heads("Source", "Documents", *(word for kind in kinds for word in (kind, "95 % interval")))
            counted = "1 source" if len(rows) == 1 else f"{len(rows)} sources"
            drawn = table(f"{name} by source", head, "".join(rows))
            tables.append(f"<details><summary>{escaped(name)}: {counted}</summary>{drawn}</details>")
    return "\n".join(tables)
