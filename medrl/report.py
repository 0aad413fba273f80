"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medrl import charts, evaluate
from medrl.charts import escaped
from medrl.config import Run, Tree
from medrl.files import read_jsonl, write_atomically

SAMPLES = 4
"""Examples shown of each task."""

TEXT_CHARS, PROMPT_CHARS, GOLD_CHARS = 2500, 5000, 400
"""What is shown of a completion, of a whole prompt and of a gold; the rest is counted."""

KINDS = ("gained", "lost", "unanswered", "wrong", "right")
"""What became of an example, in the order in which samples are taken; unanswered is unparsed or cut off."""


def write_html(folder: Path, tree: Tree, run: Run, metrics: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Write ``report.html`` of a run whose ``eval/`` and ``provenance.json`` stand already."""
    path = folder / "provenance.json"
    provenance = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections = {
        "accuracy": ("Accuracy on held-out examples", _accuracy(metrics, tree)),
        "groups": ("Accuracy by group", _groups(metrics)),
        "training": ("Training", _training(log, tree, metrics)),
        "samples": ("Samples", _samples(folder / "eval", tree, run)),
        "configuration": ("Configuration", _configuration(tree, provenance)),
    }
    write_atomically(folder / "report.html", _page(metrics, _header(metrics, provenance, tree, log), sections))


def _page(metrics: Mapping[str, Any], header: str, sections: Mapping[str, tuple[str, str]]) -> str:
    shown = {key: section for key, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{key}">{title}</a>' for key, (title, _) in shown.items())
    body = "\n".join(f'<section id="{key}"><h2>{title}</h2>\n{text}\n</section>' for key, (title, text) in shown.items())
    title = f"{_name(metrics)}{' (synthetic twins)' if metrics['synthetic'] else ''}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Whatever a model wrote, a browser will run and fetch nothing for this page.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{charts.STYLE}</style>\n</head>\n<body>\n"
        f'<header>\n{header}\n<nav aria-label="Sections">{links}</nav>\n</header>\n<main>\n{body}\n</main>\n'
        "<footer>Every number here comes from <code>metrics.json</code>, <code>eval/</code> and <code>train/log.jsonl</code> "
        f"beside this file. Written by medrl on {_date(time.time())}.</footer>\n</body>\n</html>\n"
    )


def _name(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['name']}-{metrics['run_id']}"


def _header(metrics: Mapping[str, Any], provenance: Mapping[str, Any], tree: Tree, log: Sequence[Mapping[str, Any]]) -> str:
    if metrics["synthetic"]:
        rows = '<p class="banner" role="note"><strong>Synthetic twins.</strong> These rows say nothing about medicine.</p>'
    else:
        rows = f"<p>Rows: {escaped(metrics['source'])}</p>"
    facts: list[tuple[str, str]] = [
        ("Paper", escaped(metrics["paper"] or "")),
        ("Study", escaped(metrics["study"] or "")),
        ("Seed", escaped(metrics["seed"])),
        ("Source", escaped(metrics["source"])),
        ("Commit", _commit(metrics)),
        ("Trained", _period([line["time"] for line in log if line.get("time")])),
        ("Hardware", _hardware(tree["hardware"])),
        ("CPU", escaped(f"{provenance.get('cpu') or 'unknown'}, {provenance.get('cpus') or '?'} cores")),
        ("GPU", escaped(_gpus(provenance.get("gpus") or []))),
        ("Platform", escaped(f"Python {provenance.get('python') or '?'}, {provenance.get('platform') or '?'}")),
    ]
    packages = ", ".join(f"{name} {version}" for name, version in (provenance.get("packages") or {}).items())
    wide = [
        ("Packages", escaped(packages)),
        ("Command", f"<code>{escaped(' '.join(provenance.get('command') or []))}</code>" if provenance.get("command") else ""),
        ("Otherwise than the paper", "; ".join(map(escaped, tree["deviations"]))),
    ]
    listed = [f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts if value]
    listed += [f'<div class="wide"><dt>{name}</dt><dd>{value}</dd></div>' for name, value in wide if value]
    return f'<div class="first"><h1>{escaped(_name(metrics))}</h1>\n{rows}</div>\n<dl class="about">{"".join(listed)}</dl>'


def _commit(metrics: Mapping[str, Any]) -> str:
    if not metrics["commit"]:
        return "unknown: an installed package"
    changes = ", <strong>with uncommitted changes</strong>" if metrics["dirty"] else ""
    return f'<code title="{escaped(metrics["commit"])}">{escaped(metrics["commit"][:12])}</code>{changes}'


def _hardware(hardware: Mapping[str, Any]) -> str:
    count = f"{hardware['gpus']} \N{MULTIPLICATION SIGN} " if hardware["device"] != "cpu" else ""
    return escaped(f"{count}{hardware['device']}, {hardware['precision']}, rollout by {hardware['rollout']}")


def _gpus(names: Iterable[Any]) -> str:
    return ", ".join(f"{count} \N{MULTIPLICATION SIGN} {name}" for name, count in Counter(map(str, names)).items()) or "none"


def _period(times: Sequence[float]) -> str:
    if not times:
        return "not in this run"
    start, end = _date(times[0]), _date(times[-1])
    return f"{start.removesuffix(' UTC')} to {end.removeprefix(start[:11])}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _accuracy(metrics: Mapping[str, Any], tree: Tree) -> str:
    tasks = metrics["tasks"]
    if not tasks:
        return "<p>No held-out task was asked.</p>"
    return f"<p>{_outcome(tasks)}</p>\n{_forest(tasks)}\n{_table(tasks, tree)}"


def _outcome(tasks: Mapping[str, Any]) -> str:
    """What training did, in words: a change is named as one only where both the interval and the test say so."""
    said: dict[str, list[str]] = {"rose on": [], "fell on": [], "did not clearly change on": []}
    for name, task in tasks.items():
        if change := task["change"]:
            clear = change["p_value"] < 0.05 and change["ci95"][0] * change["ci95"][1] > 0
            verb = "did not clearly change on" if not clear else "rose on" if change["difference"] > 0 else "fell on"
            said[verb].append(f"{escaped(name)} ({_signed(change['difference'])} points)")
    parts = [f"{verb} {', '.join(names)}" for verb, names in said.items() if names]
    if not parts:
        return "One model, not trained here."
    rule = "A change is called clear where its 95 % interval leaves out zero and p is below 0.05."
    return f"After training, accuracy {'; it '.join(parts)}. {rule}"


def _references(task: Mapping[str, Any]) -> dict[str, float]:
    """Accuracies that need no model, by what answers."""
    answers = {}
    for kind, value in task["reference"].items():
        if kind == "majority":
            answers["majority answer"] = value["accuracy"]
        elif value is not None:
            answers["random option" if kind == "random" else kind.replace("_", " ")] = value
    return answers


def _forest(tasks: Mapping[str, Any]) -> str:
    kinds = list(dict.fromkeys(kind for task in tasks.values() for kind in _references(task)))
    panels = []
    for name, task in tasks.items():
        dots = [_dot("base", task["base"]), _dot("trained", task)] if task["change"] else [_dot("trained", task)]
        marks = {kinds.index(kind): share for kind, share in _references(task).items()}
        panels.append(charts.Panel(f"{name}, n = {task['n']}", dots, marks))
    trained = any(task["change"] for task in tasks.values())
    dots_key = '<span class="dot"></span> before and <span class="dot full"></span> after training'
    legend = "; ".join(f'<span class="key">{charts.mark(index)}{escaped(kind)}</span>' for index, kind in enumerate(kinds))
    caption = f"Accuracy in per cent {dots_key if trained else 'of the model'}, with 95 % intervals."
    drawn = charts.forest("Accuracy of each task with 95 % intervals; Table 1 holds the numbers", panels)
    return (
        f'<figure><figcaption class="numbered">{caption} Vertical marks need no model: {legend}.</figcaption>'
        f'<div class="axis-both">{drawn}</div></figure>'
    )


def _dot(kind: str, numbers: Mapping[str, Any]) -> charts.Dot:
    return charts.Dot(kind, numbers["accuracy"], *numbers["ci95"])


def _table(tasks: Mapping[str, Any], tree: Tree) -> str:
    asked = tree["eval"]
    sampling = "greedily" if asked["temperature"] == 0 else f"at temperature {asked['temperature']}, top-p {asked['top_p']}"
    heads = _heads("Accuracy, %", "95 % interval", "Unparsed, %", "Cut off, %", "Mean tokens")
    trained = any(task["change"] for task in tasks.values())
    caption = (
        f"{'The same examples before and after training' if trained else 'One model'}, answered {sampling} in at most "
        f"{asked['max_new_tokens']} tokens. Answers that are unparsed, or cut off by that limit, count as not right. "
        "Intervals of accuracies are Wilson&rsquo;s"
    )
    caption += (
        ", of changes Bonett and Price&rsquo;s; p is McNemar&rsquo;s exact two-sided test, not corrected for the number of "
        f"tasks ({len(tasks)}); gained and lost count examples."
        if trained
        else "."
    )
    rows = "".join(_task_rows(name, task) for name, task in tasks.items())
    return (
        f'<figure><figcaption id="table-1"><b>Table 1.</b> {caption}</figcaption>'
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="table-1"><table aria-labelledby="table-1">'
        f'<thead><tr><th scope="col">Task</th>{heads}</tr></thead>{rows}</table></div></figure>'
    )


def _heads(*heads: str) -> str:
    return "".join(f'<th scope="col">{head}</th>' for head in heads)


def _task_rows(name: str, task: Mapping[str, Any]) -> str:
    change = task["change"]
    about = f"n = {task['n']}, {task['split']}, version {task['version']}, {task['protocol']}"
    rows = [f'<tr class="task"><th scope="rowgroup" colspan="6">{escaped(name)} <span>{escaped(about)}</span></th></tr>']
    if change:
        rows.append(_model_row("Before training", task["base"], ""))
    rows.append(_model_row("After training" if change else "Model", task, "strong"))
    if change:
        low, high = change["ci95"]
        rows.append(
            f'<tr class="change"><th scope="row">Change, points</th><td>{_signed(change["difference"])}</td>'
            f"<td>[{_signed(low)}, {_signed(high)}]</td>"
            f'<td class="left" colspan="3">{_p(change["p_value"])}; {change["gained"]} gained, {change["lost"]} lost</td></tr>'
        )
    always = _text(task["reference"]["majority"]["answer"], 40)
    for kind, share in _references(task).items():
        label = f"Always “{always}”" if kind == "majority answer" else escaped(kind.capitalize())
        rows.append(f'<tr class="quiet"><th scope="row">{label}</th><td>{100 * share:.1f}</td><td colspan="4"></td></tr>')
    return f"<tbody>{''.join(rows)}</tbody>"


def _model_row(label: str, numbers: Mapping[str, Any], style: str) -> str:
    cells = [f"{100 * numbers['accuracy']:.1f}", _interval(numbers["ci95"])]
    cells += [f"{100 * numbers['unparsed']:.1f}", f"{100 * numbers['truncated']:.1f}", f"{numbers['mean_tokens']:.1f}"]
    return f'<tr class="{style}"><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _interval(ci95: Sequence[float]) -> str:
    return f"[{100 * ci95[0]:.1f}, {100 * ci95[1]:.1f}]"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _p(value: float) -> str:
    return "p &lt; 0.0001" if value < 0.0001 else f"p = {value:.4f}"


def _groups(metrics: Mapping[str, Any]) -> str:
    """A table a task that has groups; empty where none has."""
    tables = []
    for name, task in metrics["tasks"].items():
        if not task["by_group"]:
            continue
        rows = []
        for group, numbers in task["by_group"].items():
            plot = charts.interval(f"{group}: {100 * numbers['accuracy']:.1f} %", _dot("trained", numbers))
            rows.append(
                f'<tr><th scope="row">{escaped(group) or "(none)"}</th><td>{numbers["n"]}</td>'
                f'<td>{100 * numbers["accuracy"]:.1f}</td><td>{_interval(numbers["ci95"])}</td><td class="plot">{plot}</td></tr>'
            )
        when = "after training" if task["change"] else "of the model"
        heads = _heads("n", "Accuracy, %", "95 % interval", "0 to 100 %")
        tables.append(
            f"<details{' open' if len(rows) <= 8 else ''}><summary>{escaped(name)}: {len(rows)} groups</summary>"
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(name)} by group"><table>'
            f"<caption>Accuracy {when} in each group.</caption>"
            f'<thead><tr><th scope="col">Group</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></details>'
        )
    return "\n".join(tables)


def _training(log: Sequence[Mapping[str, Any]], tree: Tree, metrics: Mapping[str, Any]) -> str:
    """Small multiples of the curves that the log holds; empty for an empty log."""
    figures = []
    for key, title in charts.CURVES.items():
        if curve := charts.points(log, key):
            first, last = charts.ends(log, key)
            figures.append(
                f'<figure><figcaption><b>{title}</b><span class="ends">{first} → {last}</span></figcaption>'
                f'<div class="axis-left">{charts.lines(f"{title} by step", [curve])}</div></figure>'
            )
    breakdown = _breakdown(log, tree)
    if not figures and not breakdown:
        return ""
    half = charts.half_window(len(log))
    faint = "join the lowest and the highest of neighbouring steps" if len(log) > charts.LINE_POINTS else "are every step"
    bold = f"Bold lines are running means over {2 * half + 1} logged steps, faint lines {faint}. " if half else ""
    caption = f"Training curves. {bold}Numbers are means over the first and the last tenth of the steps. Axes differ."
    grid = f'<figcaption class="numbered">{caption}</figcaption><div class="grid">{"".join(figures)}</div>'
    return f"<p>{_spent(metrics)}</p>\n{breakdown}\n<figure>{grid}</figure>"


def _spent(metrics: Mapping[str, Any]) -> str:
    trained, cost = metrics["train"], metrics["cost"]
    minutes, seconds = divmod(round(trained["seconds"]), 60)
    spent = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
    parts = [f"{trained['steps']:,} steps in {spent}"]
    parts += [f"{cost['tokens']:,.0f} tokens"] if cost["tokens"] else []
    parts += [f"{cost['gpu_hours']:.2f} GPU hours"] if cost["gpu_hours"] else []
    return escaped("; ".join([*parts, f"peak memory {cost['peak_memory_gib']} GiB"])) + "."


def _breakdown(log: Sequence[Mapping[str, Any]], tree: Tree) -> str:
    """Every reward in one chart, with a table as its legend."""
    names = dict.fromkeys(found[1] for line in log for key in line if (found := re.fullmatch(r"rewards/(.+)/mean", key)))
    curves = {name: curve for name in names if (curve := charts.points(log, f"rewards/{name}/mean"))}
    if not curves:
        return ""
    weights = {name: reward.get("weight") for name, reward in tree["reward_set"]["rewards"].items()}
    rows = []
    for index, name in enumerate(curves):
        first, last = charts.ends(log, f"rewards/{name}/mean")
        words = escaped(name).replace("_", "_<wbr>")
        key = f'<span class="key">{charts.swatch(charts.style(index))}<span>{words}</span></span>'
        weight = "" if weights.get(name) is None else f"{weights[name]:g}"
        rows.append(f'<tr><th scope="row">{key}</th><td>{weight}</td><td>{first}</td><td>{last}</td></tr>')
    drawn = charts.lines("Mean of each reward by step", list(curves.values()), 240, raw=False)
    heads = _heads("Weight", "First tenth", "Last tenth")
    table = f'<table><thead><tr><th scope="col">Reward</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return (
        '<figure><figcaption class="numbered">What the reward is made of: the mean of each reward before its weight, over the '
        f"completions that it scored{'; running means' if charts.half_window(len(log)) else ''}.</figcaption>"
        f'<div class="pair"><div class="axis-left">{drawn}</div><div class="scroll">{table}</div></div></figure>'
    )


def _samples(folder: Path, tree: Tree, run: Run) -> str:
    """Examples of every task, one of each kind before a second of any."""
    base_files = evaluate.result_files(tree, run, "base")
    trained_files = evaluate.result_files(tree, run, "trained") if run.algo.trains else base_files
    parts = []
    for name, file in base_files.items():
        pairs = list(zip(read_jsonl(folder / file), read_jsonl(folder / trained_files[name]), strict=False))
        if not pairs:
            continue
        kinds = [_kind(before, after) for before, after in pairs]
        said = ", ".join(f"{count} {_label(kind, run.algo.trains)}" for kind in KINDS if (count := kinds.count(kind)))
        shown = "\n".join(_sample(*pairs[place], kinds[place], run.algo.trains) for place in picked(kinds))
        parts.append(f"<h3>{escaped(name)}</h3><p>{said}.</p>\n{shown}")
    rule = "the first example of each kind in the order of the test set, then the second of each, and so on"
    return "\n".join([f"<p>Taken by rule, not by hand: {rule}.</p>", *parts]) if parts else ""


def _kind(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    was, now = before["verdict"], after["verdict"]
    if now == "right":
        return "right" if was == "right" else "gained"
    if was == "right":
        return "lost"
    return "wrong" if now == "wrong" else "unanswered"


def _label(kind: str, trained: bool) -> str:
    return f"still {kind}" if trained and kind in ("wrong", "right") else kind


def picked(kinds: Sequence[str]) -> list[int]:
    """Places of the samples: the first of each kind in the order of ``KINDS``, then the second of each, and so on."""
    rows = [[place for place, found in enumerate(kinds) if found == kind][:SAMPLES] for kind in KINDS]
    return [place for turn in zip_longest(*rows) for place in turn if place is not None][:SAMPLES]


def _sample(before: Mapping[str, Any], after: Mapping[str, Any], kind: str, trained: bool) -> str:
    gold = _text(after["gold"], GOLD_CHARS)
    texts = [("Before training", before), ("After training", after)] if trained else [("Model", after)]
    columns = "".join(
        f'<div><h4>{when}: <b>{escaped(line["verdict"])}</b>, {line["tokens"]} tokens</h4><pre dir="auto">'
        f"{_text(line['text'], TEXT_CHARS)}</pre></div>"
        for when, line in texts
    )
    return (
        f'<article class="sample"><p><span class="kind">{_label(kind, trained).capitalize()}</span> · '
        f"example <code>{_text(after['id'], 80)}</code> · gold <strong><bdi>{gold}</bdi></strong></p>"
        f"<details><summary>Prompt</summary>{_prompt(after['prompt'])}</details>"
        f'<div class="texts">{columns}</div></article>'
    )


def _prompt(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The messages of a prompt, cut together."""
    room, parts = PROMPT_CHARS, []
    for message in prompt:
        content = str(message["content"])
        parts.append(f'<h4>{escaped(message["role"])}</h4><pre dir="auto">{_text(content, room)}</pre>')
        room = max(0, room - len(content))
    return "".join(parts)


def _configuration(tree: Tree, provenance: Mapping[str, Any]) -> str:
    import yaml

    shown = {"The whole resolved configuration": tree, "Provenance: code, machine, data and weights": provenance}
    parts = []
    for title, values in shown.items():
        text = escaped(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        parts.append(f"<details><summary>{title}</summary><pre>{text}</pre></details>")
    return "\n".join(parts)


def _text(value: Any, most: int) -> str:
    text = str(value)
    left_out = max(0, len(text) - most)
    return escaped(text[:most]) + (f'<span class="more"> … {left_out:,} more characters</span>' if left_out else "")
