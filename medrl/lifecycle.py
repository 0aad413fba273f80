"""The straight line of one run: train -> evaluate -> finish. Reads only the frozen configuration of its folder."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medrl import files
from medrl.config import frozen
from medrl.config.build import check
from medrl.config.frozen import Tree
from medrl.config.identity import Values, digest, of_file
from medrl.config.schema import Run, family_id, run_dir, run_id
from medrl.data import kept_draws
from medrl.data.hf_hub import Unreachable
from medrl.data.mix import DrawnMix
from medrl.errors import Interrupted, UserError
from medrl.evaluation import base_answers, evaluate, further, run_metrics
from medrl.evaluation.settings import Eval
from medrl.grading.judges.base import Judge
from medrl.jobs import gpus, locks
from medrl.jobs.shutdown import GracefulShutdown
from medrl.models import base, tokenization, vllm_engine
from medrl.models.api import ledger
from medrl.models.base import Model
from medrl.models.tokenization import Rendering
from medrl.planning import fit, plan, reward_audit
from medrl.report import report, terminal
from medrl.rewards.controls import controlled
from medrl.tracking import run_folder, standing, trackers
from medrl.tracking.standing import Standing
from medrl.training import checkpoints, distributed, processes

NEIGHBOUR = ("run_id", "family", "arms", "name", "seed", "control", "eval", "tasks")
"""What is read of a run that lies beside; one that lacks any of it is none of ours, or damaged, and stops no other run."""
PAGE_SECONDS = 5.0
"""How old ``report.html`` may be while a stage of a run works on: short steps do not write it again and again."""
ANSWERS_A_PROCESS = 256
"""Fewest answers for which a process is started on another GPU: its start takes as long as some hundred of them."""
JOIN_SECONDS = 600.0
"""How long a node waits for the first one to begin the run."""


def run(tree: Tree, settings: Run | None = None) -> dict[str, Any]:
    """Do a run, or what is left of it, and return its metrics. Raises `UserError` for what a user can mend and `Interrupted` at a
    signal. What was written is kept: the same command goes on.
    """
    settings = settings or check(tree)
    folder = run_dir(settings)
    stop = GracefulShutdown()
    with files.explained(folder), stop.listening(), ledger.paid_under(Path(settings.runs)):
        if settings.dry_run:
            gc.disable()  # most of its time is imports, of which the collector takes an eighth
            try:
                return dry_run(settings, folder)
            finally:
                gc.enable()
        count = settings.hardware.gpus if settings.hardware.device == "cuda" and settings.model.runs_here else 0
        if settings.hardware.node_rank:
            gpus.claim_for_this_process(count, settings.hardware.runs_per_gpu)
            join(settings, folder, stop)
            return {}
        if not (folder / "metrics.json").exists():
            settings.model.ready()
            if run_metrics.asks_judge(settings):
                settings.judge.ready()
            if settings.reward_set.monitor:
                settings.reward_set.monitor.judge.ready()
        with ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locks.locked(folder))
            except OSError as error:
                if settings.force or error.errno not in files.NO_RIGHT or not (done := finished(settings, folder)):
                    raise
                return _print_finished(tree, settings, folder, done, writable=False)
            if settings.force:
                _clear(folder)
            if done := finished(settings, folder):
                return _print_finished(tree, settings, folder, done, writable=True)
            held.enter_context(counting(settings, folder))  # what a process asks is paid for, however it ends
            held.callback(vllm_engine.stop)
            try:
                gpus.claim_for_this_process(count, settings.hardware.runs_per_gpu)
                begin(tree, settings, folder)
            except (UserError, Interrupted):
                _leave_nothing(folder)
                raise
            try:
                with trackers.following(tree, settings, folder):
                    if settings.algo.trains and not (folder / "model").exists():
                        _train_as_a_stage(settings, folder, stop)
                        if stop.signal is not None:  # it came in the last step, after which there is nothing to go on from
                            raise Interrupted("Stopped after training. Run the same command again to go on.", stop.signal)
                    evaluate_models(tree, settings, folder, stop)
                    metrics = finish(tree, settings, folder)
            except BaseException as error:
                standing.note_end(folder, error)
                _page_so_far(tree, settings, folder)
                raise
            _print_over_seeds(metrics, _beside(folder, metrics))
            return metrics


def _print_finished(tree: Tree, settings: Run, folder: Path, done: dict[str, Any], *, writable: bool) -> dict[str, Any]:
    """The table of a run that is done; on a disk that nothing can be written to, that alone."""
    beside = _beside(folder, done)
    if writable:
        (folder / "provenance.json.partial").unlink(missing_ok=True)  # of a kill behind the metrics; the others are written again
        _renew_report(tree, settings, folder, done, beside)
    print(terminal.table(done, folder, _arms(done, beside)))
    if writable:
        trackers.catch_up(tree, settings, folder)
    _print_over_seeds(done, beside)
    return done


@contextmanager
def counting(settings: Run, folder: Path) -> Iterator[None]:
    """Keep in the run's folder, as it happens, what is asked of its judges and of a model behind an API."""
    asked: dict[str, Judge | Model] = {"judge": settings.judge, "api": settings.model}
    if settings.reward_set.monitor:
        asked["second_judge"] = settings.reward_set.monitor.judge
    kept = {whom: run_folder.Tally(folder, whom, each.tally) for whom, each in asked.items()}
    for whom, each in asked.items():
        each.follow(kept[whom].note)
    try:
        yield
    finally:
        for whom, each in asked.items():
            kept[whom].note()
            each.follow(lambda: None)  # what this process asks later is no longer this run's


def finished(settings: Run, folder: Path) -> dict[str, Any] | None:
    """Metrics of a run that is done and was evaluated as this configuration asks; None where work is left."""
    try:
        metrics = files.read_json(folder / "metrics.json")
        before = files.read_json(folder / "provenance.json")
        if run_folder.metrics_changed(folder):
            return None
    except (FileNotFoundError, NotADirectoryError, UserError):
        return None  # not there, or damaged by another program; it is made again from what it was made of
    if before.get("asked") != evaluate.asked_digest(settings):
        return None
    noted = run_folder.noted_files(folder)
    if any(name.startswith("eval/") and not (folder / name).exists() for name in noted):
        return None  # removed, to be asked again
    _check_files(folder, "finished")
    _check_inputs(folder, before, _inputs(settings, _on_disk(before)))
    if before.get("grader", evaluate.grader_of(settings)) != evaluate.grader_of(settings):
        return None  # the texts are kept, and graded anew
    return metrics


def _check_files(folder: Path, state: str) -> None:
    """Raises `UserError` where a file that a stage has recorded holds something else now."""
    if edited := run_folder.edited(folder):
        raise UserError(
            f"{folder} is {state}, and {', '.join(edited)} {'is' if len(edited) == 1 else 'are'} not what its numbers were made "
            "of. Bring them back; or remove the changed ones of eval/, which are then asked again; or start over with force=true."
        )


def dry_run(settings: Run, folder: Path) -> dict[str, Any]:
    """Print the plan and stop. The tokenizer loads, no weights do."""
    try:
        tokenizer, drawn = _rows(settings, planned=True)
    except Unreachable as error:
        return _dry_run_of_limits(settings, folder, error)
    settings.algo.check_rows(drawn.rows, tokenizer)
    audited = plan.audit_of(settings, drawn, dry=True)
    planned = plan.plan(settings, drawn, audited, tokenizer, plan.pace(settings, folder))
    print(plan.describe(planned))
    if audited:
        print(audited.describe())
        reward_audit.stop_on(audited, settings.reward_set, settings.control)
    return planned


def _dry_run_of_limits(settings: Run, folder: Path, error: Unreachable) -> dict[str, Any]:
    """The plan where the hub cannot be asked, of what is known without it: the configuration's limits and the model's shape.
    Raises `Unreachable` where the model is none whose shape is known.
    """
    planned = plan.plan(settings, None, None, None, plan.pace(settings, folder))
    planned["unread"] = f"planned at the limits, without rows, their tokens and the reward audit. {error}"
    print(plan.describe(planned))
    return planned


def begin(tree: Tree, settings: Run, folder: Path) -> None:
    """Freeze the configuration and note where everything comes from. Raises `UserError` where the run was begun with other rows
    or weights than there are now.
    """
    ids = {"run_id": run_id(settings), "family": family_id(settings), "asked": evaluate.asked_digest(settings)}
    ids["grader"] = evaluate.grader_of(settings)
    now = _inputs(settings)
    path = folder / "provenance.json"
    before: dict[str, Any] = {}
    if path.exists():
        before = files.read_json(path)
        _check_inputs(folder, before, now)
        run_folder.check_readable(folder)
        _restore_log(folder)
        checkpoints.check_model(folder / "model")
        for name in run_folder.edited(folder):
            if name.endswith(".jsonl"):
                files.read_jsonl(folder / name)  # names the line, where one is damaged
        _check_files(folder, "begun")
        if run_folder.metrics_changed(folder):
            print(f"metrics  {folder / 'metrics.json'} is not what was written; it is made again of the answers")
        others = [key for key in now["rows"] if before.get("rows", {}).get(key, now["rows"][key]) != now["rows"][key]]
        if others:
            print(f"rows     {', '.join(others)}: not the rows that were asked before; asked anew")
        now["data"], now["rows"] = ({**before.get(part, {}), **now[part]} for part in ("data", "rows"))
    elif held := next((name for name in ("eval", "model", "train/log.jsonl") if (folder / name).exists()), ""):
        raise UserError(f"{folder} holds {held} and no provenance.json, which says what that was made of; {files.START_OVER}.")
    elif said := _neighbor(tree, settings, folder):
        print(said)
    (folder / "metrics.json").unlink(missing_ok=True)  # of what was asked before; its answers stay in eval/
    frozen.freeze(tree, folder)
    before.pop(standing.ENDED, None)
    # Code, command and machine are those of the first call; `stages` has those of every later one.
    run_folder.write_json(path, {**run_folder.provenance(), **before, **ids, **now})
    for asked in further.asked(settings):
        if stale := evaluate.graded_otherwise(asked, folder):
            _regrade(asked, folder, stale)


def _restore_log(folder: Path) -> None:
    """Bring the lost or changed log of a done training back from its last checkpoint. Raises `UserError` where none has it."""
    log = folder / "train" / "log.jsonl"
    about = run_folder.noted_files(folder).get("train/log.jsonl")
    if not about or (log.exists() and of_file(log) == about["sha256"]):
        return
    kept = sorted((folder / "train").glob("**/checkpoint-*/log.jsonl"))
    copy = next((each for each in kept if of_file(each) == about["sha256"]), None)
    if not copy:
        raise UserError(f"{log} is not what training wrote, and no checkpoint has it; {files.START_OVER}.")
    files.write_atomically(log, copy.read_text(encoding="utf-8"))
    print(f"log      {log} was lost or changed; it is again what {copy.parent.name} keeps of it")


def _check_inputs(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises `UserError` where rows or weights hold something else than what the run was begun with."""
    # Rows of another identity, which a run that trains nothing may be asked about, too, are not rows that have changed.
    data = before.get("data", {})
    same = [key for key in now["data"] if key in data and before.get("rows", {}).get(key) == now["rows"].get(key)]
    changed = [key for key in same if data[key] != now["data"][key]]
    changed += [part for part in ("model", "rewards", "others") if part in now and before.get(part, now[part]) != now[part]]
    if changed:
        raise UserError(
            f"{folder} was begun with other rows or weights than there are now ({', '.join(changed)}; provenance.json "
            "has what they were). Bring those back, or start over with force=true."
        )


def _on_disk(before: Mapping[str, Any]) -> Callable[[str, str], bool]:
    """Whether an input of a run lies here: what the hub holds now is asked where something is left to do, and not for a table."""

    def here(part: str, name: str) -> bool:
        noted = before.get(part, {})
        return "commit" not in json.dumps(noted.get(name, {}) if part == "data" else noted)

    return here


def _regrade(settings: Run, folder: Path, stale: Mapping[Path, tuple[str, str]]) -> None:
    """Grade the kept texts again, and say so."""
    graders = ", ".join(sorted({grader for _, grader in stale.values()}))
    with run_folder.stage(folder, "grade") as entry:
        found = evaluate.regrade(settings, folder, stale)
        entry |= found._asdict()
    again = f", {found.dropped} are asked again in other words" if found.dropped else ""
    print(
        f"grades   made by another grader ({graders}, now {evaluate.grader_of(settings)}): {found.answers} kept answers graded "
        f"anew, {found.changed} with another grade{again}"
    )


def _neighbor(tree: Tree, settings: Run, folder: Path) -> str:
    """What tells a new run from one that stands beside it, where the same command or one of another precision made that one."""
    beside = sorted(folder.parent.glob(f"{settings.name}-*/config.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
    said = ""
    nothing = "nothing is taken from it"
    for path in beside[:3]:
        try:
            theirs = frozen.load(path.parent)
        except UserError:  # damaged: that is said to whoever asks that run
            continue
        parts = [key for key in tree if theirs.get(key) != tree[key] and key not in ("force", "dry_run", "logger")]
        if not parts:
            return f"new      {path.parent} has this configuration and other weights or rows; {nothing}"
        if parts == ["extensions"]:
            return f"new      {path.parent} was made with other code of {', '.join(tree['extensions'])}; {nothing}"
        ours, other = tree["hardware"], theirs["hardware"]
        kept = [key for key in ("precision", "rollout") if other.get(key) != ours[key]]
        if parts == ["hardware"] and kept:
            differs = "; ".join(f"{key} {other.get(key)} there, {ours[key]} here" for key in kept)
            said = said or f"new      {path.parent} is the same but for {differs}; {nothing}"
    return said


def _train_as_a_stage(settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    with run_folder.stage(folder, "train"):
        _train_here_or_in_processes(settings, folder, stop)
        for path in (folder / "train" / "log.jsonl", *sorted((folder / "model").glob("*"))):
            if path.is_file():
                run_folder.note_file(folder, path)


def _train_here_or_in_processes(settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    if settings.hardware.processes == 1:
        unloaded: list[Path] = []
        while True:
            try:
                train(settings, folder, stop, unloaded)
                return
            except checkpoints.NotLoaded as error:
                unloaded.append(error.checkpoint)
                if not checkpoints.newest(folder / "train", unloaded):
                    raise
                print(f"resume   {error.checkpoint} does not load ({error.said}); the one before is taken", flush=True)
    elif settings.algo.trains and not (folder / "model").exists():
        checkpoints.newest(folder / "train")  # removes torn ones, once and not in every process
        processes.in_processes(settings.hardware, folder, stop)


def join(settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    """Train on a node that is not the first, which does all else. Raises `UserError` where that has not begun the run."""
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


def train(settings: Run, folder: Path, stop: GracefulShutdown, unloaded: Collection[Path] = ()) -> None:
    """Train and write ``model/``; nothing to do where it stands already. Each process of a run calls it. Raises `NotLoaded` where
    the newest checkpoint but those of ``unloaded`` cannot be gone on from.
    """
    from medrl.algos import pass_rate
    from medrl.algos.base import Job, SamplingAlgo

    out, work = folder / "model", folder / "train"
    if not settings.algo.trains or out.exists():
        return
    base.quiet()
    (work / "completions").mkdir(parents=True, exist_ok=True)
    tokenizer, drawn = _rows(settings)
    settings.algo.check_rows(drawn.rows, tokenizer)
    checkpoint = checkpoints.newest(work, unloaded, verified=distributed.size() > 1)  # the parent has looked
    first = distributed.rank() == 0
    asked, fitted = settings, fit.fitted(settings)
    settings = fitted.run
    audited = plan.audit_of(settings, drawn, dry=False) if first and not checkpoint else None
    if first:
        planned = plan.plan(asked, drawn, audited, tokenizer, plan.pace(asked, folder), fitted)
        files.write_jsonl(folder / "contaminated.jsonl", drawn.contaminated)  # which says "none" where it is lost
        if not checkpoint:
            run_folder.write_json(folder / "plan.json", planned)
        print(f"run      {folder}\n{plan.describe(planned)}", flush=True)
    if audited:
        reward_audit.stop_on(audited, settings.reward_set, settings.control)
    model = _base(settings, tokenizer)
    plan.check_room(settings, model, folder)
    paid = replace(settings, reward_set=controlled(settings.reward_set, settings.control, settings.seed, drawn.rows))

    page = partial(_page_so_far, frozen.load(folder), settings, folder)
    note = partial(page, seconds=PAGE_SECONDS) if first else None
    ask = evaluate.while_training(settings, tokenizer)
    job = Job(paid, drawn.rows, model, tokenizer, work, checkpoint, stop, ask, note)
    if checkpoint and first:
        print(f"resume   from step {checkpoints.step_of(checkpoint)}", flush=True)
    elif audited:
        audited = reward_audit.with_base(audited, settings.reward_set, reward_audit.sampled(job, settings.algo))
        print(audited.totals(), flush=True)
        if said := reward_audit.advice(audited, settings, planned["tokens"]["longest"]):
            print(said, flush=True)
        run_folder.write_json(folder / "plan.json", planned | {"audit": audited.as_json()})
        reward_audit.stop_on(audited, settings.reward_set, settings.control)
    if first:
        page()
    if isinstance(settings.algo, SamplingAlgo) and settings.algo.measures_pass_rate:
        job = replace(job, rows=pass_rate.chosen(job, settings.algo))
    settings.algo.train(job, out)


def evaluate_models(tree: Tree, settings: Run, folder: Path, stop: GracefulShutdown) -> None:
    """Ask the held-out tasks of the model before and after training; what another run knows of the one before is taken over."""
    results = folder / "eval"
    base.quiet()
    whiches = ("base", "trained", *settings.algo.earlier(folder / "train")) if settings.algo.trains else ("base",)
    divided = False
    if further.missing(settings, "base", results):
        with base_answers.held(settings) as shared:
            if shared and not settings.force:
                _take_over(tree, settings, folder, shared)
            if further.missing(settings, "base", results):
                divided = _answer_in_processes(settings, folder, whiches, stop)
                _answer(tree, settings, folder, "base", shared)
    if not divided:
        _answer_in_processes(settings, folder, whiches[1:], stop)
    for which in whiches[1:]:
        if further.missing(settings, which, results):
            _answer(tree, settings, folder, which)


def _answer_in_processes(settings: Run, folder: Path, whiches: Sequence[str], stop: GracefulShutdown) -> bool:
    """Whether each GPU of a run has answered its share of what these models lack, which `_answer` then puts together: where
    there is enough to be worth their starts.
    """
    count = settings.hardware.gpus if settings.model.runs_here else 1
    if (
        count == 1
        or sum(further.missing_answers(settings, which, folder / "eval") for which in whiches) < ANSWERS_A_PROCESS * count
    ):
        return False
    with run_folder.stage(folder, "evaluate") as entry:
        entry["processes"] = count
        processes.answering(settings.hardware, folder, whiches, stop)
    return True


def answer_share(settings: Run, folder: Path, whiches: Sequence[str]) -> None:
    """Answer what is of this process's share (`distributed.share`) of what these models lack."""
    base.quiet()
    for which in whiches:
        if further.missing(settings, which, folder / "eval"):
            further.answer(settings, which, *load(settings, folder, which), folder / "eval", lambda *_: None)
    vllm_engine.stop()


def _take_over(tree: Tree, settings: Run, folder: Path, shared: Path) -> None:
    """Take the answers that another run's model, the same before training, has given: a stage of the run, where there are any."""
    found = base_answers.found(settings, shared, folder / "eval")
    if not found:
        return
    (folder / "eval").mkdir(exist_ok=True)
    with run_folder.stage(folder, "take over") as entry:
        entry["model"] = "base"
        for path, taken in found.items():
            entry["generation"] = taken.generation
            files.write_atomically(path, taken.text)
            for begun in evaluate.begun_files(path):
                begun.unlink()
            run_folder.note_file(folder, path, grader=evaluate.grader_of(settings), taken_from=taken.run)
    origins = ", ".join(sorted({taken.run for taken in found.values()}))
    print(f"base     answers before training ({len(found)} of the files in eval/) are those of {origins}", flush=True)
    _page_so_far(tree, settings, folder)


def load(settings: Run, folder: Path, which: str) -> tuple[Any, Any]:
    """Model and tokenizer of a run before training or after it, or of what training has kept on the way."""
    if which == "base":
        tokenizer = settings.model.tokenizer(_texts(settings))
        evaluate.shown(settings, tokenizer)  # refuses what has no room for an answer, before weights load
        return _base(settings, tokenizer), tokenizer
    weights = settings.algo.earlier(folder / "train").get(which)
    if weights:
        checkpoints.check_model(weights)
    classifier = settings.algo.trains_reward_model
    return base.trained(settings.model, settings.hardware, settings.seed, weights or folder / "model", classifier=classifier)


def _answer(tree: Tree, settings: Run, folder: Path, which: evaluate.Which, shared: Path | None = None) -> None:
    """One model answers what it has not yet answered: a stage of the run, and a line a task in the ledger of test splits.

    Each file goes to ``shared``, too, where other runs take it from.
    """
    model, tokenizer = load(settings, folder, which)

    def note(asked: Run, name: str, path: Path) -> None:
        run_folder.note_file(folder, path, grader=evaluate.grader_of(settings))
        if shared:
            base_answers.keep(settings, shared, path, entry.get("generation", {}))
        if settings.eval.split == "test" and not settings.source.invents(asked.data_mix.tasks[name], "test"):
            run_folder.note_asked(folder.parent, {"task": name, "run": folder.name, "model": which, "limit": settings.eval.limit})
        _page_so_far(tree, settings, folder, PAGE_SECONDS)

    with run_folder.stage(folder, "evaluate") as entry:
        entry["model"] = which
        _page_so_far(tree, settings, folder)
        if not settings.algo.trains_reward_model:
            entry["generation"] = settings.model.decoding(
                settings.eval.sampling(settings.seed), model, tokenizer, settings.hardware
            )
        further.answer(settings, which, model, tokenizer, folder / "eval", note)


def _base(settings: Run, tokenizer: Any) -> Any:
    """The model before training: a policy, or the classifier that a reward model begins as."""
    make = settings.model.classifier if settings.algo.trains_reward_model else settings.model.policy
    return make(tokenizer, settings.hardware, settings.seed)


def finish(tree: Tree, settings: Run, folder: Path) -> dict[str, Any]:
    """Write ``metrics.json`` and ``report.html`` and print the table."""
    log = files.read_jsonl(folder / "train" / "log.jsonl")
    metrics = run_metrics.of_folder(tree, settings, folder, log, done=True)
    beside = _arms(metrics, _beside(folder, metrics))
    report.write_html(folder, tree, settings, metrics, log, beside)
    run_folder.write_json(folder / "metrics.json", metrics)  # last: it says that the run is done
    run_folder.note_file(folder, folder / "metrics.json")
    print(terminal.table(metrics, folder, beside))
    return metrics


def write_report(tree: Tree, settings: Run, folder: Path) -> Standing:
    """Write ``report.html`` of a run that is begun, whatever became of it, with all that is known by now."""
    stands, log = standing.of_folder(folder), files.read_jsonl(folder / "train" / "log.jsonl")
    if stands.state == "finished":
        metrics = files.read_json(folder / "metrics.json", "run the command of this run again, which makes it anew")
    else:
        metrics = run_metrics.of_folder(tree, settings, folder, log, done=False)
    beside = _arms(metrics, _beside(folder, metrics)) if metrics["tasks"] else []
    report.write_html(folder, tree, settings, metrics, log, beside, stands)
    return stands


def _page_so_far(tree: Tree, settings: Run, folder: Path, seconds: float = 0.0) -> None:
    """The same while there is something more important to do, which goes on where no page can be written.

    One that is younger than ``seconds`` is left as it is.
    """
    page = folder / "report.html"
    try:
        if not page.exists() or not 0 <= time.time() - page.stat().st_mtime < seconds:
            write_report(tree, settings, folder)
    except Exception as error:  # a page is worth no run, and no other error's place
        print(f"warning  {page} could not be written ({type(error).__name__}: {error})", file=sys.stderr)


def _beside(folder: Path, metrics: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Metrics of the finished runs of the folder that holds a run's folder, its own among them; where ``metrics`` are given, of
    those with the same ``family`` or ``arms``, whose files are then held against what their runs wrote.
    """
    found = []
    marks = None if metrics is None else [mark.encode() for key in ("family", "arms") if (mark := metrics.get(key))]
    for path in sorted(folder.parent.glob("*/metrics.json")):
        try:
            if marks is not None and not any(mark in path.read_bytes() for mark in marks):
                continue  # of thousands, most are not read further than this
            each = files.read_json(path, needs=NEIGHBOUR)
            related = metrics is None or any(each[key] and each[key] == metrics.get(key) for key in ("family", "arms"))
            if related and (metrics is None or not run_folder.metrics_changed(path.parent)):
                found.append(each)
        except (OSError, UserError):  # being written by another process, or another program's
            continue
    return found


def _alike(kind: str, metrics: dict[str, Any], beside: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of one ``family`` or with the same ``arms``, evaluated alike."""

    def way(each: dict[str, Any]) -> list[Any]:
        return [each.get(kind), Eval.asking(each.get("eval") or {})]

    return [each for each in beside if each.get(kind) and way(each) == way(metrics)]


def _arms(metrics: dict[str, Any], beside: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The placebos of a run, or the run that it is a placebo of with its other placebos, of any seed."""
    return [each for each in _alike("arms", metrics, beside) if each["run_id"] != metrics["run_id"]]


def arms_of(folder: Path, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The placebos that lie beside a finished run."""
    return _arms(metrics, _beside(folder, metrics))


def _print_over_seeds(metrics: dict[str, Any], beside: list[dict[str, Any]]) -> None:
    """What the runs beside a run say over seeds: of its own configuration, and above its placebos."""
    family, arms = (_alike(kind, metrics, beside) for kind in ("family", "arms"))
    if len({each["seed"] for each in family}) > 1:
        print(terminal.seeds(family))
    if len({each["seed"] for each in arms}) > 1 and len({each["control"] for each in arms}) > 1:
        print(terminal.placebos_over_seeds(arms))


def _renew_report(tree: Tree, settings: Run, folder: Path, metrics: dict[str, Any], beside: list[dict[str, Any]]) -> None:
    """Write the page of a finished run again where a placebo has come since."""
    page, arms = folder / "report.html", _arms(metrics, beside)
    written = page.stat().st_mtime if page.exists() else 0.0
    if any((folder.parent / f"{each['name']}-{each['run_id']}" / "metrics.json").stat().st_mtime > written for each in arms):
        report.write_html(folder, tree, settings, metrics, files.read_jsonl(folder / "train" / "log.jsonl"), arms)


def _inputs(settings: Run, wanted: Callable[[str, str], bool] = lambda part, name: True) -> dict[str, Any]:
    """What tells the data and the weights of a run from any others: file hashes, commits on the hub; of those ``wanted``, by part
    (``model``, ``rewards``, ``others``, ``data``) and name.
    """
    tasks = settings.data_mix.tasks
    read = [(name, split) for name, split in settings.data_mix.splits(settings.algo.trains) if wanted("data", f"{name}/{split}")]
    found: dict[str, Any] = {}
    if wanted("model", ""):
        found["model"] = settings.model.fingerprint()
    if wanted("rewards", ""):  # those that have weights of their own, where completions are paid
        paid = settings.reward_set.rewards.items() if settings.algo.uses_rewards else ()
        found["rewards"] = {name: of_weights for name, reward in paid if (of_weights := reward.fingerprint())}
    if settings.algo.others and wanted("others", ""):
        found["others"] = [model.fingerprint() for model in settings.algo.others]
    found["data"] = {f"{name}/{split}": settings.source.fingerprint(tasks[name], split) for name, split in read}
    found["rows"] = {f"{name}/{split}": digest(settings.source.identity_of(tasks[name], split)) for name, split in read}
    return found


def _rows(settings: Run, *, planned: bool = False) -> tuple[Any, DrawnMix]:
    """The tokenizer, or what a plan needs of it, and the training rows that fit it; none where nothing is trained."""
    load = settings.model.plan_tokenizer if planned else settings.model.tokenizer
    tokenizer = load(_texts(settings))
    if settings.algo.uses_rewards:
        for reward in settings.reward_set.rewards.values():
            reward.check_tokenizer(tokenizer)
    if not settings.algo.trains:
        return tokenizer, DrawnMix([], {}, [], "none")
    rendering = Rendering(tokenizer) if settings.model.runs_here else None
    mix, source = settings.data_mix, settings.source
    count = (lambda prompts: rendering.prompt_lengths(prompts, mix.max_prompt_tokens)) if rendering else None
    draw = partial(mix.draw, source, settings.seed, count, imitated=settings.algo.imitates)
    return tokenizer, kept_draws.drawn(mix, partial(_decides, settings, tokenizer), draw, anew=settings.force)


def _decides(settings: Run, tokenizer: Any) -> Values | None:
    """All that decides which rows are drawn; None where the tokenizer's own code does, of which nothing is known."""
    counted = tokenization.fingerprint(tokenizer) if settings.model.runs_here else {}
    if counted is None:
        return None
    mix, source = settings.data_mix, settings.source
    read = [(f"{name}/{split}", mix.tasks[name], split) for name, split in mix.splits(trains=True)]
    return {
        "mix": [mix.identity(), repr(mix)],  # whose fields, and whose tasks' fields, are rather all than too few
        "tasks": {name: task.identity() for name, task in mix.tasks.items()},
        "source": [source.identity(), repr(source)],
        "rows": {name: [source.identity_of(task, split), source.fingerprint(task, split)] for name, task, split in read},
        "drawn": {"seed": settings.seed, "imitated": settings.algo.imitates},
        "tokenizer": counted,
        "code": evaluate.code_digest(("config", "data", "grading", "models", "tasks")),
        "versions": {name: run_folder.machine()[name] for name in ("python", "packages")},
    }


def _texts(settings: Run) -> Callable[[], Iterator[str]]:
    """Words of the mix for a model that trains a tokenizer of its own; read only then."""

    def texts() -> Iterator[str]:
        for row in settings.data_mix.draw(settings.source, settings.seed, None, imitated=settings.algo.imitates).rows:
            yield "\n".join(message["content"] for message in row.messages) + "\n" + row.demonstration

    return texts


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
