"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl import wording
from medrl.charts import escaped
from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.files import read_jsonl, write_atomically
from medrl.sections.accuracy import accuracy, groups
from medrl.sections.audit import audit
from medrl.sections.base import page
from medrl.sections.perplexity import perplexity
from medrl.sections.samples import samples
from medrl.sections.trained_on import trained_on
from medrl.sections.training import training


def write_html(folder: Path, tree: Tree, run: Run, metrics: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Write ``report.html`` of a run whose ``eval/`` and ``provenance.json`` stand already."""
    provenance, plan = _read(folder / "provenance.json"), _read(folder / "plan.json")
    contaminated = read_jsonl(folder / "contaminated.jsonl")
    sections = {
        "warnings": ("Warnings", _warnings(metrics, plan)),
        "accuracy": ("Accuracy on held-out examples", accuracy(metrics, tree, run)),
        "perplexity": ("Perplexity of held-out text", perplexity(metrics)),
        "groups": ("Accuracy by group", groups(metrics)),
        "trained-on": ("What it was trained on", trained_on(plan, contaminated)),
        "audit": ("Reward audit", audit(plan.get("audit"), run)),
        "training": ("Training", training(log, tree, metrics)),
        "samples": ("Samples", samples(folder / "eval", tree, run)),
        "configuration": ("Configuration", _configuration(tree, provenance)),
    }
    write_atomically(folder / "report.html", _page(metrics, _header(metrics, provenance, tree, log), sections))


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _page(metrics: Mapping[str, Any], header: str, sections: Mapping[str, tuple[str, str]]) -> str:
    title = f"{_name(metrics)}{' (synthetic twins)' if metrics['synthetic'] else ''}"
    footer = (
        "Every number here comes from <code>metrics.json</code>, <code>plan.json</code>, <code>eval/</code> and "
        f"<code>train/log.jsonl</code> beside this file. Written by medrl on {_date(time.time())}."
    )
    return page(title, header, sections, footer)


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
        ("Family", f'<code title="The same for runs that differ in nothing but their seed">{escaped(metrics["family"])}</code>'),
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
        ("Judge", escaped(wording.judged(metrics["judge"])) if metrics["judge"] else ""),
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


def _warnings(metrics: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """What went wrong without an error, before any number; empty where nothing did."""
    signs = [
        f"<li><b>{escaped(sign['kind'].capitalize())}</b>, from step {escaped(sign['step'])}: {escaped(sign['message'])}</li>"
        for sign in metrics["train"]["warnings"]
    ]
    if findings := (plan.get("audit") or {}).get("findings"):
        holes = f"{len(findings)} {'hole' if len(findings) == 1 else 'holes'}"
        signs.append(f'<li><b>Reward</b>: its audit found {holes} and training went on: <a href="#audit">Reward audit</a></li>')
    return f'<ul class="warnings">{"".join(signs)}</ul>' if signs else ""


def _configuration(tree: Tree, provenance: Mapping[str, Any]) -> str:
    import yaml

    shown = {"The whole resolved configuration": tree, "Provenance: code, machine, data and weights": provenance}
    parts = []
    for title, values in shown.items():
        text = escaped(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        parts.append(f"<details><summary>{title}</summary><pre>{text}</pre></details>")
    return "\n".join(parts)
