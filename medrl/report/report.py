"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.files import read_jsonl, write_atomically
from medrl.report import html, phrases
from medrl.report.html import Fact
from medrl.report.sections import accuracy, audit, examples, training


def write_html(folder: Path, tree: Tree, run: Run, metrics: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Write ``report.html`` of a run whose ``eval/`` and ``provenance.json`` stand already."""
    provenance, plan = _read(folder / "provenance.json"), _read(folder / "plan.json")
    findings = (plan.get("audit") or {}).get("findings") or []
    warnings = metrics["train"]["warnings"]
    texts, contaminated = metrics.get("perplexity"), read_jsonl(folder / "contaminated.jsonl")
    perplexity = html.render("perplexity", tasks=texts) if texts else Markup("")
    trained_on = html.render("data", mix=plan["mix"], contaminated=contaminated) if plan.get("mix") else Markup("")
    sections = {
        "warnings": ("Warnings", html.render("warnings", warnings=warnings, findings=findings)),
        "accuracy": ("Accuracy on held-out examples", accuracy.accuracy(metrics, tree, run)),
        "perplexity": ("Perplexity of held-out text", perplexity),
        "groups": ("Accuracy by group", accuracy.groups(metrics)),
        "trained-on": ("What it was trained on", trained_on),
        "audit": ("Reward audit", audit.audit(plan.get("audit"), run)),
        "training": ("Training", training.training(log, tree, metrics)),
        "samples": ("Samples", examples.samples(folder / "eval", tree, run)),
        "configuration": ("Configuration", _configuration(tree, provenance)),
    }
    name = f"{metrics['name']}-{metrics['run_id']}"
    sources = "metrics.json, plan.json, eval/ and train/log.jsonl"
    facts = _facts(metrics, provenance, tree, log)
    page = html.page(name, name, metrics["source"], facts, sections, sources, synthetic=metrics["synthetic"])
    write_atomically(folder / "report.html", page)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _facts(metrics: Mapping[str, Any], provenance: Mapping[str, Any], tree: Tree, log: Sequence[Mapping[str, Any]]) -> list[Fact]:
    packages = ", ".join(f"{name} {version}" for name, version in (provenance.get("packages") or {}).items())
    commit = metrics["commit"]
    return [
        Fact("Paper", metrics["paper"] or ""),
        Fact("Study", metrics["study"] or ""),
        Fact("Seed", str(metrics["seed"])),
        Fact("Family", metrics["family"], code=True, title="The same for runs that differ in nothing but their seed"),
        Fact("Commit", commit[:12] if commit else "unknown: an installed package", code=bool(commit), title=commit or ""),
        Fact("Working tree", "with uncommitted changes" if metrics["dirty"] else ""),
        Fact("Trained", _period([line["time"] for line in log if line.get("time")])),
        Fact("Hardware", _hardware(tree["hardware"])),
        Fact("CPU", f"{provenance.get('cpu') or 'unknown'}, {provenance.get('cpus') or '?'} cores"),
        Fact("GPU", html.counted(provenance.get("gpus") or []) or "none"),
        Fact("Platform", f"Python {provenance.get('python') or '?'}, {provenance.get('platform') or '?'}"),
        Fact("Packages", packages, wide=True),
        Fact("Command", " ".join(provenance.get("command") or []), wide=True, code=True),
        Fact("Judge", phrases.judged(metrics["judge"]) if metrics["judge"] else "", wide=True),
        Fact("Deviations from the paper", "; ".join(map(str, tree["deviations"])), wide=True),
    ]


def _period(times: Sequence[float]) -> str:
    if not times:
        return "not in this run"
    start, end = html.date(times[0]), html.date(times[-1])
    return f"{start.removesuffix(' UTC')} to {end.removeprefix(start[:11])}"


def _hardware(hardware: Mapping[str, Any]) -> str:
    count = f"{hardware['gpus']} \N{MULTIPLICATION SIGN} " if hardware["device"] != "cpu" else ""
    return f"{count}{hardware['device']}, {hardware['precision']}, rollout by {hardware['rollout']}"


def _configuration(tree: Tree, provenance: Mapping[str, Any]) -> Markup:
    import yaml

    shown = {"The whole resolved configuration": tree, "Provenance: code, machine, data and weights": provenance}
    texts = {title: yaml.safe_dump(values, sort_keys=False, allow_unicode=True) for title, values in shown.items()}
    return html.render("configuration", texts=texts)
