"""``metrics.json`` of a run, made of what its folder holds; of a run that is not done, as much of it as is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medrl import files
from medrl.algos import pass_rate, token_budget
from medrl.config.frozen import Tree
from medrl.config.rules import has_placebo
from medrl.config.schema import Run, arms_id, family_id, rows_from, run_id
from medrl.evaluation import evaluate, further, metrics_json
from medrl.models.api.api_model import ApiModel
from medrl.table.results import METRICS_SCHEMA
from medrl.tracking import run_folder
from medrl.training import second_judge, warnings

Log = Sequence[Mapping[str, Any]]


def of_folder(tree: Tree, run: Run, folder: Path, log: Log, *, done: bool) -> dict[str, Any]:
    """The whole record of a run, with the lines of its ``train/log.jsonl``. Where not everything is ``done``, only tasks with a
    whole file of answers are in it, no judge is asked, and memory is what the log says.
    """
    provenance = files.read_json(folder / "provenance.json", needs=("commit", "dirty"))
    origin, synthetic = rows_from(run)
    stages = run_folder.stages(folder)
    generation: dict[str, Any] = next((each["generation"] for each in reversed(stages) if each.get("generation")), {})
    counts = run_folder.times_asked(folder.parent)
    summary, curves = metrics_json.summarise(run, folder / "eval", done=done), _curves(log)
    parted = (second_judge.of_folder(run, folder / "train") or {}).get("parted")
    signs = [*warnings.warnings(log), *warnings.constant_answers(summary["tasks"], curves["steps"])]
    generated = run.algo.generated_tokens(log, folder / "train")
    budget = getattr(run.algo, "max_generated_tokens", None)
    signs += warnings.unspent(generated, budget, curves["steps"]) if done and budget else []
    signs += [warnings.TrainingWarning("judges have parted", parted["step"], parted["message"])] if parted else []
    api, taken = _api(run, folder) if done else None, run_folder.taken_over(folder)
    return {
        "schema": METRICS_SCHEMA,
        "run_id": run_id(run),
        "family": family_id(run),
        "name": run.name,
        "paper": run.paper,
        "study": run.study,
        "seed": run.seed,
        "control": run.control if has_placebo(run) else None,
        "arms": arms_id(run),
        "source": origin,
        "synthetic": synthetic,
        "commit": provenance["commit"],
        "dirty": any(each["dirty"] for each in stages) or provenance["dirty"],
        "eval": {**tree["eval"], "generation": generation},
        "asked": {name: counts[name] for name in run.data_mix.held_out if counts[name] and run.eval.split == "test"},
        **({"taken_over": taken} if taken else {}),
        **summary,
        "train": {
            **curves,
            **({"monitor": watched} if (watched := second_judge.of_folder(run, folder / "train")) else {}),
            **({"pass_rate": asked} if (asked := pass_rate.of_folder(run.algo, folder / "train")) else {}),
            "warnings": [sign._asdict() for sign in signs],
        },
        "departures": run.algo.departures,
        "judge": _judge(run, folder) if done else None,
        **({"api": api} if api else {}),
        "cost": {**_cost(log, run, generated, done=done), **({"usd": api["usd"]} if api else {})},
    }


def asks_judge(run: Run) -> bool:
    """Whether anything of this run asks the judge."""
    mix = run.data_mix
    names = {*mix.held_out, *(name for name, weight in mix.weights.items() if weight > 0 and run.algo.trains)}
    rewards = run.reward_set.rewards.values() if run.algo.uses_rewards else ()
    return any(mix.tasks[name].answers.judged for name in names) or any(hasattr(reward, "judge") for reward in rewards)


def _judge(run: Run, folder: Path) -> dict[str, Any] | None:
    """Who judged, what was asked in all processes of this run, and how far the judge agrees with people."""
    from medrl.grading.judges.agreement import agreement, labelled_rows

    if not asks_judge(run):
        return None
    judge = run.judge
    agreed = agreement(judge, labelled_rows(Path(judge.calibration_file))) if judge.calibration_file else None
    return {"name": judge.describe(), "agreement": agreed, "calls": run_folder.tallies(folder, "judge", judge.tally())}


def _api(run: Run, folder: Path) -> dict[str, Any] | None:
    """What was asked of a model behind an API, by its answers and by the calls of all processes of this run."""
    if not isinstance(run.model, ApiModel):
        return None
    asked = [folder / "eval" / file for each in further.asked(run) for file in evaluate.result_files(each, "base").values()]
    lines = [line for file in asked for line in files.read_jsonl(file)]
    return {
        **run.model.used(lines),
        "decoding": run.model.who_decodes(run.eval.sampling(run.seed)),
        "calls": run_folder.tallies(folder, "api", run.model.tally()),
    }


def _curves(log: Log) -> dict[str, Any]:
    """First and last value of every curve: means over the first and the last tenth of the steps that have it."""
    if not log:
        return {"steps": 0, "seconds": 0.0}
    curves: dict[str, Any] = {"steps": log[-1]["step"], "seconds": round(sum(line["seconds"] for line in log), 1)}
    for name in dict.fromkeys(name for line in log for name in line):  # a step that generates nothing logs no reward
        if name in ("reward", "loss") or (name.startswith("rewards/") and name.endswith("/mean")):
            key = "reward/" + name.split("/")[1] if "/" in name else name
            known = [line for line in log if name in line]
            tenth = max(1, len(known) // 10)
            curves[key] = [warnings.mean(known[:tenth], name), warnings.mean(known[-tenth:], name)]
    return curves


def _cost(log: Log, run: Run, generated: int, *, done: bool) -> dict[str, Any]:
    """What the run took; memory of one process, the first, which evaluates, too."""
    seconds = sum(line["seconds"] for line in log)
    on_gpu = run.hardware.device == "cuda"
    own = [run_folder.peak_memory_gib()] if done else []  # of this process, which may be another than the run's
    return {
        "gpu_hours": seconds * run.hardware.processes / 3600 if on_gpu else 0.0,
        "tokens": next((line["num_tokens"] for line in reversed(log) if "num_tokens" in line), 0),
        token_budget.LOGGED: generated,
        "peak_memory_gib": max([*own, *(line["peak_memory_gib"] for line in log)], default=0.0),
    }
