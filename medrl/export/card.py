"""The model card: what the model is for and not for, what it was trained on, what was measured, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from medrl.config import frozen
from medrl.config.schema import Run
from medrl.config.version import __version__
from medrl.data.sources import Split
from medrl.files import packaged, read_json, read_jsonl
from medrl.report import headline, terminal
from medrl.safe_text import visible
from medrl.table.table import Table, escape_markdown
from medrl.tasks.base import Task

HERE = Path(__file__).parent
SHOWN = ("torch", "transformers", "trl", "peft")
"""Packages whose versions the card names."""


@dataclass(frozen=True)
class Source:
    """What a card is made of."""

    run: Run
    folder: Path
    """Of the run."""
    arms: Sequence[dict[str, Any]]
    """Metrics of its placebos."""
    agreement: Table
    """How far each file agrees with the run."""
    formats: Sequence[str]
    rows: int
    """Answers of each task that each file was asked."""
    licence: str | None
    """Of the model, as the user says it."""

    def read(self, name: str) -> Any:
        """A JSON file of the run; empty where a run of an older version has none."""
        path = self.folder / name
        return read_json(path) if path.exists() else {}


def write(path: Path, source: Source) -> None:
    """Write ``README.md`` with the hub's metadata."""
    from huggingface_hub import ModelCard, ModelCardData
    from jinja2 import Environment, StrictUndefined

    metrics, provenance = source.read("metrics.json"), source.read("provenance.json")
    base = provenance.get("model", {})
    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True, "finalize": _inert}
    template = Environment(**options).from_string((HERE / "card.md.jinja").read_text(encoding="utf-8"))
    text = template.render(
        name=source.run.name,
        claims=list(map(str, headline.headlines(metrics, source.arms))),
        synthetic=metrics["synthetic"],
        version=__version__,
        run=f"{source.run.name}-{metrics['run_id']}",
        algo=source.run.algo.kind,
        seed=source.run.seed,
        paper=source.run.paper,
        tables=[Markup(table.markdown().strip()) for table in terminal.tables(metrics, source.arms)],
        placebo=any(each["seed"] == metrics["seed"] for each in source.arms),
        has_placebo=metrics.get("control") is not None,
        rows=source.rows,
        use=_use(source),
        agreement=Markup(source.agreement.markdown().strip()),
        base=_base(source.run, base),
        base_commit=base.get("commit"),
        adapter=source.run.model.lora is not None,
        data=list(_data(source)),
        contamination=_contamination(source),
        settings=Markup(_settings(source.folder, uses_rewards=source.run.algo.uses_rewards)),
        commit=metrics["commit"],
        dirty=metrics["dirty"],
        extensions={Path(name).name: sha256 for name, sha256 in source.run.extensions.items()},
        packages=", ".join(f"{name} {provenance['packages'][name]}" for name in SHOWN if name in provenance.get("packages", {})),
    )
    data = ModelCardData(
        base_model=base.get("repository"),
        datasets=sorted({task.hub_id for task, split in _splits(source.run) if _published(source.run, task, split)}) or None,
        eval_results=list(results(source.run, metrics)) or None,
        library_name="transformers",
        license=source.licence,
        model_name=source.run.name,
        pipeline_tag="text-generation",
        tags=["medrl", "medical", source.run.algo.kind, *(["gguf"] if {"f16", "q8_0"} & set(source.formats) else [])],
    )
    path.write_text(str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")), encoding="utf-8")


def _inert(value: Any) -> Any:
    """What the card says of a run folder, as Markdown that is only text; what is Markdown already stays."""
    return escape_markdown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _use(source: Source) -> dict[str, str]:
    """How each format is loaded; HERE stands for the folder or the repository."""
    said = {
        "merged": 'transformers.AutoModelForCausalLM.from_pretrained("HERE")',
        "adapter": 'peft.PeftModel.from_pretrained(base, "HERE", subfolder="adapter")',
    }
    said |= dict.fromkeys(("f16", "q8_0"), "llama.cpp; ollama create NAME -f Modelfile")
    return {name: Markup(said[name]) for name in source.formats}


def results(run: Run, metrics: Mapping[str, Any]) -> Iterator[Any]:
    """Results as the hub lists them, of published rows alone: a twin's number is no result of the data set."""
    from huggingface_hub import EvalResult

    for name, task in (*metrics["tasks"].items(), *metrics["perplexity"].items()):
        about = run.data_mix.tasks[name]
        if not _published(run, about, "test"):
            continue
        config, _, split = task["split"].partition("/")
        place: dict[str, Any] = {
            "task_type": "question-answering" if "accuracy" in task else "text-generation",
            "dataset_type": about.hub_id,
            "dataset_name": name,
            "dataset_config": config,
            "dataset_split": split or config,
        }
        if "perplexity" in task:
            yield EvalResult(**place, metric_type="perplexity", metric_value=task["perplexity"], metric_name="perplexity")
            continue
        yield EvalResult(
            **place,
            metric_type="accuracy",
            metric_value=task["accuracy"],
            metric_name="accuracy, in the shape that was asked for",
        )
        if "readable" in task:
            found = task["readable"]["accuracy"]
            yield EvalResult(**place, metric_type="accuracy", metric_value=found, metric_name="accuracy, as a reader finds it")


def _splits(run: Run) -> Iterator[tuple[Task, Split]]:
    mix = run.data_mix
    yield from ((mix.tasks[name], "train") for name, weight in mix.weights.items() if weight > 0)
    yield from ((mix.tasks[name], "test") for name in mix.held_out)


def _published(run: Run, task: Task, split: Split) -> bool:
    return task.location(split).file is None and not run.source.invents(task, split)


def _base(run: Run, found: Mapping[str, str]) -> str:
    """What the training began with, without a folder of this machine."""
    if repository := found.get("repository"):
        return Markup(f"[{escape_markdown(repository)}](https://huggingface.co/{quote(repository)})")
    if "run" in found:
        return f"What the run {found['run']} has trained"
    weights = getattr(run.model, "weights", "")
    if not weights:
        return "Random weights"
    embedded = weights.startswith("embedded:")
    named = " ".join(visible(weights if embedded else Path(weights).name).replace("`", "'").split())
    what = "the model in medrl's package" if embedded else "weights in a folder"
    return Markup(f"`{named}`, {what}")


def _data(source: Source) -> Iterator[dict[str, Any]]:
    run, mix = source.run, source.run.data_mix
    licences = packaged(__file__, "licences.yaml")
    taken = source.read("plan.json").get("mix", {})
    for name in dict.fromkeys((*(name for name, weight in mix.weights.items() if weight > 0), *mix.held_out)):
        task, counts = mix.tasks[name], taken.get(name, {})
        splits: list[Split] = [*(["train"] if counts else []), *(["test"] if name in mix.held_out else [])]  # type: ignore[list-item]
        own = any(task.location(split).file for split in splits)
        twins = any(run.source.invents(task, split) for split in splits)
        yield {
            "name": name,
            "origin": "files of one's own" if own else f"{'synthetic twins of ' * twins}{task.hub_id}",
            "licence": "the owner's" if own else "none: generated" if twins else licences.get(task.hub_id, "see its card"),
            "trained": f"{counts['taken']:,} draws from {counts['available']:,} rows, {100 * counts['share']:.1f} %"
            if counts
            else "",
            "evaluated": task.held_out_part if name in mix.held_out else "",
        }


def _contamination(source: Source) -> str:
    """What was dropped, and how it was looked for."""
    dropped = len(read_jsonl(source.folder / "contaminated.jsonl"))
    looked = source.read("plan.json").get("decontaminate")
    rows = "1 training row was" if dropped == 1 else f"{dropped} training rows were"
    return f"Training rows were compared with the held-out ones ({looked}): {rows} dropped for what they shared."


def _settings(folder: Path, *, uses_rewards: bool) -> str:
    """Algorithm, rewards, adapter and evaluation as the run's configuration has them."""
    import yaml

    tree = frozen.load(folder)
    parts = ("algo", "reward_set", "eval") if uses_rewards else ("algo", "eval")
    shown: dict[str, Any] = {part: {key: value for key, value in tree[part].items() if key != "published"} for part in parts}
    shown["model"] = {key: tree["model"].get(key) for key in ("lora", "quantization", "context_tokens")}
    shown["data_mix"] = {key: value for key, value in tree["data_mix"].items() if key not in ("tasks", "_target_")}
    return visible(yaml.safe_dump(_without_targets(shown), sort_keys=False, allow_unicode=True)).strip().replace("```", "` ` `")


def _without_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_targets(value) for key, value in node.items() if key != "_target_"}
    return [_without_targets(item) for item in node] if isinstance(node, list) else node
