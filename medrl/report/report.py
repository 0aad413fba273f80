"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.files import read_jsonl, write_atomically
from medrl.planning.reward_audit import GOLD, ROWS, TOLERANCE
from medrl.report import html
from medrl.report.headline import headlines
from medrl.report.sections import accuracy, examples, people, training
from medrl.table import placebos


def write_html(
    folder: Path,
    tree: Tree,
    run: Run,
    metrics: dict[str, Any],
    log: list[dict[str, Any]],
    beside: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write ``report.html`` of a run whose ``eval/`` and ``provenance.json`` stand already; ``beside`` as in `terminal.table`."""
    provenance, plan = _read(folder / "provenance.json"), _read(folder / "plan.json")
    audit = plan.get("audit") or {"matrix": {}, "findings": []}
    contaminated = read_jsonl(folder / "contaminated.jsonl")
    mixed = {key: plan.get(key) for key in ("mix", "decontaminate")}
    probed = {"weights": run.reward_set.weights, "rows": ROWS, "gold": GOLD, "tolerance": TOLERANCE}
    said, same_seed = headlines(metrics, beside), [each for each in (metrics, *beside) if each["seed"] == metrics["seed"]]
    sections = {
        "claims": ("What these numbers say", html.render("claims", headlines=said)),
        "warnings": ("Warnings", html.render("warnings", warnings=metrics["train"]["warnings"], findings=audit["findings"])),
        "accuracy": ("Accuracy on held-out examples", accuracy.accuracy(metrics, tree, run)),
        "placebos": ("Gain minus placebo", html.render("placebos", table=placebos.table(same_seed))),
        "answers": ("Answers", accuracy.answers(metrics)),
        "perplexity": ("Perplexity of held-out text", html.render("perplexity", tasks=metrics.get("perplexity", {}))),
        "groups": ("Accuracy by group", accuracy.groups(metrics)),
        "harm": ("Who was harmed", people.harm(folder / "eval", metrics, run)),
        "robustness": ("Other wordings, other orders", html.render("robustness", tasks=metrics["tasks"])),
        "calibration": ("Confidence", people.calibration(metrics)),
        "trained-on": (
            "What it was trained on",
            html.render("data", contaminated=contaminated, **mixed),
        ),
        "audit": ("Reward audit", html.render("audit", **{**audit, **probed})),
        "training": ("Training", training.training(log, tree, metrics)),
        "samples": ("Samples", examples.samples(folder / "eval", tree, run)),
        "configuration": ("Configuration", html.render("configuration", tree=tree, provenance=provenance)),
    }
    name = f"{metrics['name']}-{metrics['run_id']}"
    sources = "metrics.json, plan.json, eval/ and train/log.jsonl"
    about = {"provenance": provenance, "hardware": tree["hardware"], "deviations": tree["deviations"]}
    facts = html.render("facts", metrics=metrics, log=log, **about)
    page = html.page(name, name, metrics["source"], facts, sections, sources, synthetic=metrics["synthetic"])
    write_atomically(folder / "report.html", page)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
