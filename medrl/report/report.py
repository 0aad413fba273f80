"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.files import read_jsonl, write_atomically
from medrl.report import html
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
    about = {"provenance": provenance, "hardware": tree["hardware"], "deviations": tree["deviations"]}
    facts = html.render("facts", metrics=metrics, log=log, **about)
    page = html.page(name, name, metrics["source"], facts, sections, sources, synthetic=metrics["synthetic"])
    write_atomically(folder / "report.html", page)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _configuration(tree: Tree, provenance: Mapping[str, Any]) -> Markup:
    import yaml

    shown = {"The whole resolved configuration": tree, "Provenance: code, machine, data and weights": provenance}
    texts = {title: yaml.safe_dump(values, sort_keys=False, allow_unicode=True) for title, values in shown.items()}
    return html.render("configuration", texts=texts)
