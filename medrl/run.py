"""The straight line of one run: train -> evaluate -> finish. Reads only the frozen configuration of its folder."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrl import files
from medrl.config import frozen
from medrl.config.build import check
from medrl.config.frozen import Tree
from medrl.config.identity import digest
from medrl.config.schema import Run, arms_id, family_id, rows_from, run_dir, run_id, splits
from medrl.data.mix import DrawnMix
from medrl.errors import Interrupted, UserError
from medrl.evaluation import evaluate, metrics_json
from medrl.evaluation.settings import Eval
from medrl.jobs import gpus, locks
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models import base
from medrl.models.tokenization import Rendering
from medrl.planning import plan, reward_audit
from medrl.report import report, terminal
from medrl.rewards.controls import controlled
from medrl.table.results import METRICS_SCHEMA
from medrl.tracking import run_folder
from medrl.tracking import wandb as tracking
from medrl.training import checkpoints, distributed, processes, warnings

JOIN_SECONDS = 600.0
"""How long a node waits for the first one to begin the run."""


def run(tree: Tree, settings: Run | None = None) -> dict[str, Any]:
    """Do a run, or what is left of it, and return its metrics.

    Raises:
        UserError: what a user can mend; everything written before is kept.
        Interrupted: a signal came; the same command goes on from there.
    """
    settings = settings or check(tree)
    folder = run_dir(settings)
    stop = GracefulShutdown()
    with files.explained(folder), stop.listening():
        if settings.dry_run:
            gc.disable()  # most of its time is imports, of which the collector takes an eighth
            try:
                return dry_run(tree, settings, folder)
            finally:
                gc.enable()
        count = settings.hardware.gpus if settings.hardware.device == "cuda" else 0
        if settings.hardware.node_rank:
            gpus.claim_for_this_process(count)
            join(settings, folder, stop)
            return {}
        if _asks_judge(settings) and not (folder / "metrics.json").exists():
            settings.judge.ready()
        folder.mkdir(parents=True, exist_ok=True)
        with locks.locked(folder):
            if settings.force:
                _clear(folder)
            if done := finished(settings, folder):
                print(terminal.table(done, folder))
                tracking.catch_up(tree, settings, folder)
                if family := _family(folder, done):
                    print(terminal.seeds(family))
                return done
            try:
                gpus.claim_for_this_process(count)
                begin(tree, settings, folder)
            except (UserError, Interrupted):
                _leave_nothing(folder)
                raise
            try:
                with tracking.following(tree, settings, folder):
                    _train_here_or_in_processes(settings, folder, stop)
                    evaluate_models(settings, folder)
                    metrics = finish(tree, settings, folder)
            finally:  # what a process asked was paid for, however it ended
                run_folder.note_tally(folder, settings.judge.tally())
            if family := _family(folder, metrics):
                print(terminal.seeds(family))
            return metrics


def finished(settings: Run, folder: Path) -> dict[str, Any] | None:
    """Metrics of a run that is done and was evaluated as this configuration asks; None where work is left."""
    try:
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        asked = json.loads((folder / "provenance.json").read_text(encoding="utf-8")).get("asked")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None  # not there, or damaged by another program; it is made again from what it was made of
    return metrics if asked == evaluate.asked_digest(settings) else None


def dry_run(tree: Tree, settings: Run, folder: Path) -> dict[str, Any]:
    """Print the plan and stop. The tokenizer loads, no weights do."""
    _quiet()
    tokenizer, drawn = _rows(settings)
    settings.algo.check_rows(drawn.rows, tokenizer)
    audited = plan.audit_of(settings, drawn, dry=True)
    planned = plan.plan(settings, drawn, audited, tokenizer, plan.pace(settings, folder))
    print(plan.describe(planned))
    if audited:
        print(audited.describe())
        reward_audit.stop_on(audited, settings.reward_set, settings.control)
    return planned


def begin(tree: Tree, settings: Run, folder: Path) -> None:
    """Freeze the configuration and note where everything comes from.

    Raises:
        UserError: the run was begun with other rows or weights than there are now.
    """
    ids = {"run_id": run_id(settings), "family": family_id(settings), "asked": evaluate.asked_digest(settings)}
    now = {**ids, **run_folder.provenance(), **_inputs(settings)}
    path = folder / "provenance.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        # Rows of another identity, which a run that trains nothing may be asked about, too, are not rows that have changed.
        same = [key for key in before["data"] if before.get("rows", {}).get(key) == now["rows"].get(key)]
        changed = [key for key in same if before["data"][key] != now["data"][key]]
        changed += [part for part in ("model", "rewards") if before.get(part, {}) != now[part]]
        now["data"], now["rows"] = ({**before.get(part, {}), **now[part]} for part in ("data", "rows"))
        if changed:
            raise UserError(
                f"{folder} was begun with other rows or weights than there are now ({', '.join(changed)}; provenance.json "
                "has what they were). Bring those back, or start over with force=true."
            )
    (folder / "metrics.json").unlink(missing_ok=True)  # of what was asked before; its answers stay in eval/
    frozen.freeze(tree, folder)
    run_folder.write_json(path, now)


def _train_here_or_in_processes(settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    if settings.hardware.processes == 1:
        train(settings, folder, stop)
    elif settings.algo.trains and not (folder / "model").exists():
        checkpoints.newest(folder / "train")  # removes torn ones, once and not in every process
        processes.in_processes(settings.hardware, folder, stop)


def join(settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    """Train on a node that is not the first, which freezes the configuration, evaluates and writes.

    Raises:
        UserError: the first node has not begun the run.
    """
    deadline = time.monotonic() + JOIN_SECONDS
    while not (folder / "config.yaml").exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"Node 0 has not begun {folder} within {JOIN_SECONDS:.0f} seconds; start the same command there with "
                "hardware.node_rank=0, and set runs=FOLDER to one that all nodes see."
            )
        time.sleep(1)
    if not (folder / "model").exists():
        processes.in_processes(settings.hardware, folder, stop)


def train(settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    """Train and write ``model/``; nothing to do where it stands already. Each process of a run calls it."""
    from medrl.algos.base import Job

    out, work = folder / "model", folder / "train"
    if not settings.algo.trains or out.exists():
        return
    _quiet()
    (work / "completions").mkdir(parents=True, exist_ok=True)
    tokenizer, drawn = _rows(settings)
    settings.algo.check_rows(drawn.rows, tokenizer)
    checkpoint = checkpoints.newest(work)
    first = distributed.rank() == 0
    audited = plan.audit_of(settings, drawn, dry=False) if first and not checkpoint else None
    if first:
        planned = plan.plan(settings, drawn, audited, tokenizer, plan.pace(settings, folder))
        if not checkpoint:
            files.write_jsonl(folder / "contaminated.jsonl", drawn.contaminated)
            run_folder.write_json(folder / "plan.json", planned)
        print(f"run      {folder}\n{plan.describe(planned)}", flush=True)
    if audited:
        reward_audit.stop_on(audited, settings.reward_set, settings.control)
    model = _base(settings, tokenizer)
    plan.check_room(settings, model, folder)
    paid = replace(settings, reward_set=controlled(settings.reward_set, settings.control, settings.seed, drawn.rows))
    job = Job(paid, drawn.rows, model, tokenizer, work, checkpoint, stop, evaluate.while_training(settings, tokenizer))
    if checkpoint and first:
        print(f"resume   from step {checkpoints.step_of(checkpoint)}", flush=True)
    elif audited:
        audited = reward_audit.with_base(audited, settings.reward_set, reward_audit.sampled(job, settings.algo))
        print(audited.totals(), flush=True)
        run_folder.write_json(folder / "plan.json", planned | {"audit": audited.as_json()})
        reward_audit.stop_on(audited, settings.reward_set, settings.control)
    settings.algo.train(job, out)


def evaluate_models(settings: Run, folder: Path) -> None:
    """Ask the held-out tasks of the model before and after training."""
    results = folder / "eval"
    _quiet()
    if evaluate.missing(settings, "base", results):
        tokenizer = settings.model.tokenizer(_texts(settings))
        evaluate.answer_tasks(settings, "base", _base(settings, tokenizer), tokenizer, results)
    if settings.algo.trains and evaluate.missing(settings, "trained", results):
        reward_model = settings.algo.trains_reward_model
        model = base.trained(settings.model, settings.hardware, settings.seed, folder / "model", classifier=reward_model)
        evaluate.answer_tasks(settings, "trained", *model, results)


def _base(settings: Run, tokenizer: Any) -> Any:
    """The model before training: a policy, or the classifier that a reward model begins as."""
    make = settings.model.classifier if settings.algo.trains_reward_model else settings.model.policy
    return make(tokenizer, settings.hardware, settings.seed)


def finish(tree: Tree, settings: Run, folder: Path) -> dict[str, Any]:
    """Write ``metrics.json`` and ``report.html`` and print the table."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    log = files.read_jsonl(folder / "train" / "log.jsonl")
    origin, synthetic = rows_from(settings)
    metrics = {
        "schema": METRICS_SCHEMA,
        "run_id": run_id(settings),
        "family": family_id(settings),
        "name": settings.name,
        "paper": settings.paper,
        "study": settings.study,
        "seed": settings.seed,
        "control": settings.control if settings.algo.uses_rewards else None,
        "arms": arms_id(settings),
        "source": origin,
        "synthetic": synthetic,
        "commit": provenance["commit"],
        "dirty": provenance["dirty"],
        "eval": tree["eval"],
        **metrics_json.summarise(settings, folder / "eval"),
        "train": {**_curves(log), "warnings": [sign._asdict() for sign in warnings.warnings(log)]},
        "departures": settings.algo.departures,
        "judge": _judge(settings, folder),
        "cost": _cost(log, settings),
    }
    report.write_html(folder, tree, settings, metrics, log)
    run_folder.write_json(folder / "metrics.json", metrics)  # last: it says that the run is done
    print(terminal.table(metrics, folder))
    return metrics


def _family(folder: Path, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Metrics of the finished runs beside this one, evaluated alike, that differ from it only in the seed; none if alone."""
    found = []
    for path in sorted(folder.parent.glob("*/metrics.json")):
        try:
            beside = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # being written by another process, or another program's
            continue
        if isinstance(beside, dict) and _alike(beside) == _alike(metrics):
            found.append(beside)
    return found if len({beside["seed"] for beside in found}) > 1 else []


def _alike(metrics: dict[str, Any]) -> list[Any]:
    """What runs of one family that were asked in the same way have in common."""
    return [metrics.get("family"), Eval.asking(metrics.get("eval") or {})]


def _asks_judge(settings: Run) -> bool:
    """Whether anything of this run asks the judge."""
    mix = settings.data_mix
    names = {*mix.held_out, *(name for name, weight in mix.weights.items() if weight > 0 and settings.algo.trains)}
    rewards = settings.reward_set.rewards.values() if settings.algo.uses_rewards else ()
    return any(mix.tasks[name].answers.judged for name in names) or any(hasattr(reward, "judge") for reward in rewards)


def _judge(settings: Run, folder: Path) -> dict[str, Any] | None:
    """Who judged, what was asked in all processes of this run, and how far the judge agrees with people."""
    from medrl.grading.judges.agreement import agreement, labelled_rows

    if not _asks_judge(settings):
        return None
    judge = settings.judge
    agreed = agreement(judge, labelled_rows(Path(judge.calibration_file))) if judge.calibration_file else None
    return {"name": judge.describe(), "agreement": agreed, "calls": run_folder.tallies(folder, judge.tally())}


def _inputs(settings: Run) -> dict[str, Any]:
    """What tells the data and the weights of a run from any others: file hashes, commits on the hub."""
    tasks = settings.data_mix.tasks
    return {
        "model": settings.model.fingerprint(),
        "rewards": _reward_fingerprints(settings),
        "data": {f"{name}/{split}": settings.source.fingerprint(tasks[name], split) for name, split in splits(settings)},
        "rows": {f"{name}/{split}": digest(settings.source.identity_of(tasks[name], split)) for name, split in splits(settings)},
    }


def _reward_fingerprints(settings: Run) -> dict[str, dict[str, str]]:
    """Of the rewards that have weights of their own, where completions are paid."""
    rewards = settings.reward_set.rewards if settings.algo.uses_rewards else {}
    return {name: found for name, reward in rewards.items() if (found := reward.fingerprint())}


def _rows(settings: Run) -> tuple[Any, DrawnMix]:
    """The tokenizer and the training rows that fit it."""
    tokenizer = settings.model.tokenizer(_texts(settings))
    if settings.algo.uses_rewards:
        for reward in settings.reward_set.rewards.values():
            reward.check_tokenizer(tokenizer)
    rendering = Rendering(tokenizer)
    drawn = settings.data_mix.draw(
        settings.source,
        settings.seed,
        lambda messages: len(rendering.prompt(messages)),
        imitated=settings.algo.imitates,
    )
    return tokenizer, drawn


def _texts(settings: Run) -> Callable[[], Iterator[str]]:
    """Words of the mix for a model that trains a tokenizer of its own; read only then."""

    def texts() -> Iterator[str]:
        for row in settings.data_mix.draw(settings.source, settings.seed, None, imitated=settings.algo.imitates).rows:
            yield "\n".join(message["content"] for message in row.messages) + "\n" + row.demonstration

    return texts


def _curves(log: list[dict[str, Any]]) -> dict[str, Any]:
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


def _cost(log: list[dict[str, Any]], settings: Run) -> dict[str, Any]:
    """What the run took; memory of one process, the first, which evaluates, too."""
    seconds = sum(line["seconds"] for line in log)
    on_gpu = settings.hardware.device == "cuda"
    return {
        "gpu_hours": seconds * settings.hardware.processes / 3600 if on_gpu else 0.0,
        "tokens": next((line["num_tokens"] for line in reversed(log) if "num_tokens" in line), 0),
        "peak_memory_gib": max([run_folder.peak_memory_gib(), *(line["peak_memory_gib"] for line in log)]),
    }


def _leave_nothing(folder: Path) -> None:
    """Remove the folder of a run that could not begin, where it holds nothing but our lock."""
    if [path.name for path in folder.iterdir()] == [".lock"]:
        shutil.rmtree(folder)


def _clear(folder: Path) -> None:
    """Empty a run folder, keeping the lock that this process holds."""
    for path in folder.iterdir():
        if path.name == ".lock":
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _quiet() -> None:
    """Keep the libraries' notices off a terminal that shows progress; their warnings stay."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
