"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from medrl.config.frozen import Tree
from medrl.config.schema import Run
from medrl.files import read_jsonl, write_atomically
from medrl.planning.reward_audit import GOLD, ROWS, TOLERANCE
from medrl.report import html, kept_texts
from medrl.report.headline import headlines
from medrl.report.sections import accuracy, browser, examples, people, training
from medrl.table import placebos
from medrl.tracking import run_folder
from medrl.tracking.standing import FINISHED, Standing


def write_html(
    folder: Path,
    tree: Tree,
    run: Run,
    metrics: dict[str, Any],
    log: list[dict[str, Any]],
    beside: Sequence[Mapping[str, Any]] = (),
    stands: Standing = FINISHED,
) -> None:
    """Write ``report.html`` out of what the folder of a run holds, ``provenance.json`` at least, with as much of ``metrics.json``
    as is known (`run_metrics.of_folder`). The page says on top where the run ``stands``; of one that is not finished it claims
    nothing.
    """
    provenance, plan = run_folder.read(folder / "provenance.json"), run_folder.read(folder / "plan.json")
    audit = plan.get("audit") or {"matrix": {}, "findings": []}
    contaminated = read_jsonl(folder / "contaminated.jsonl")
    mixed = {key: plan.get(key) for key in ("mix", "decontaminate")}
    probed = {"weights": run.reward_set.weights, "rows": ROWS, "gold": GOLD, "tolerance": TOLERANCE}
    finished = stands.state == "finished"
    answered = finished or metrics["tasks"] or metrics["perplexity"]
    asked = kept_texts.answers(folder / "eval", run)
    sampled = kept_texts.completions(folder / "train" / "completions", run, browser.MOST_COMPLETIONS)
    said, same_seed = (
        headlines(metrics, beside) if finished else [],
        [each for each in (metrics, *beside) if each["seed"] == metrics["seed"]],
    )
    sections = {
        "claims": ("What these numbers say", html.render("claims", headlines=said)),
        "warnings": ("Warnings", html.render("warnings", warnings=metrics["train"]["warnings"], findings=audit["findings"])),
        "accuracy": ("Accuracy on held-out examples", accuracy.accuracy(metrics, tree, run) if answered else Markup("")),
        "placebos": ("Gain minus placebo", html.render("placebos", table=placebos.table(same_seed))),
        "answers": ("Answers", accuracy.answers(metrics)),
        "perplexity": ("Perplexity of held-out text", html.render("perplexity", tasks=metrics.get("perplexity", {}))),
        "groups": ("Accuracy by group", accuracy.groups(metrics)),
        "harm": ("Who was harmed", people.harm(asked, metrics)),
        "robustness": ("Other wordings, other orders", html.render("robustness", tasks=metrics["tasks"])),
        "calibration": ("Confidence", people.calibration(metrics)),
        "trained-on": (
            "What it was trained on",
            html.render("data", contaminated=contaminated, asked=metrics["train"].get("pass_rate"), **mixed),
        ),
        "audit": ("Reward audit", html.render("audit", **{**audit, **probed})),
        "training": ("Training", training.training(log, tree, metrics)),
        "samples": ("Samples", examples.samples(asked, run)),
        "browse": ("All texts", browser.browser(asked, sampled)),
        "configuration": ("Configuration", html.render("configuration", tree=tree, provenance=provenance)),
    }
    name = f"{metrics['name']}-{metrics['run_id']}"
    sources = "metrics.json, plan.json, eval/ and train/log.jsonl"
    about = {"provenance": provenance, "hardware": tree["hardware"], "deviations": tree["deviations"]}
    facts = html.render("facts", metrics=metrics, log=log, **about)
    top = "" if finished else f"{stands}\nThis page holds what was known when it was written, and claims nothing."
    page = html.page(
        name, name, metrics["source"], facts, sections, sources, synthetic=metrics["synthetic"],
        said=top, loud=stands.state == "failed",
    )  # fmt: skip
    write_atomically(folder / "report.html", page)
