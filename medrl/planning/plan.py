"""What a run would do, before any weights load: mix, batch arithmetic, tokens, memory, time, and the disk it needs."""

from __future__ import annotations

import itertools
import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medrl.config.schema import family_id, rows_from
from medrl.data.hf_hub import Unreachable
from medrl.data.prompts import messages
from medrl.errors import UserError
from medrl.files import packaged, read_json, read_jsonl
from medrl.models.api.api_model import ApiModel
from medrl.models.chat_templates import notes
from medrl.models.tokenization import Rendering
from medrl.planning import duration, fit
from medrl.planning.fit import Fitted
from medrl.planning.memory import GIB, Shape, estimate, in_gib, measure
from medrl.statistics import power

if TYPE_CHECKING:
    from medrl.algos.base import SamplingAlgo, TrainedAlgo
    from medrl.algos.samples import SelfSampled
    from medrl.config.schema import Run
    from medrl.data.mix import DrawnMix, TrainingRow
    from medrl.planning.reward_audit import Audit

SPARE_BYTES = 64 * 2**20
"""Room for logs, completions and results beside the checkpoints."""

LOOKED_AT = 200
"""Finished runs beside this one that are asked for their pace: of thousands, reading all would take longer than the plan."""
MEASURED_ROWS = 256
"""DrawnMix rows whose tokens are counted; the draw is shuffled, so they stand for the others."""


class Pace(NamedTuple):
    """What this run, or one like it, took before; None of what was not measured."""

    step: dict[str, Any] | None
    """The log, how many steps it has, and their median seconds."""
    answer: dict[str, Any] | None
    """The record of the stages, how many answers they made, and the seconds of one, with the loading of the model in it."""


def plan(
    run: Run, drawn: DrawnMix | None, audited: Audit | None, tokenizer: Any, pace: Pace, fitted: Fitted | None = None
) -> dict[str, Any]:
    """The plan as ``plan.json`` holds it, of limits where training rows or tokenizer cannot be read (``drawn`` is None): with the
    reward audit, what a step and an answer took before (`pace`), and the hardware that was decided. Raises `UserError` where
    nothing is known of the model either.
    """
    from medrl.algos.base import SamplingAlgo, TrainedAlgo
    from medrl.algos.samples import SelfSampled

    fitted = fitted or fit.fitted(run)
    asked, run = run, fitted.run
    planned: dict[str, Any] = {"source": rows_from(run)[0], "tuned": list(run.tuned), "mix": drawn.report if drawn else {}}
    planned |= {"control": run.control, "chosen": list(run.chosen), "card": fit.of_card(run), "fit": fitted.said}
    planned |= {"unread": None, "template": notes(tokenizer) if drawn else []}
    planned |= {"decontaminate": drawn.rule if drawn else None, "batch": {}, "tokens": None, "memory": None, "time": None}
    planned["evaluation"] = _evaluation(run, pace.answer)
    planned["shots"] = _shots(run, tokenizer) if drawn else {}
    planned["departures"] = run.algo.departures
    planned["samples"] = _samples(run.algo, drawn) if drawn and isinstance(run.algo, SelfSampled) else None
    planned["budget"] = _budget(run, run.algo) if isinstance(run.algo, SamplingAlgo) else None
    planned["pass_rate"] = _pass_rate(run.algo, drawn) if drawn and isinstance(run.algo, SamplingAlgo) else None
    measured = fitted.shape
    if isinstance(run.algo, TrainedAlgo):
        limit = run.algo.max_prompt_tokens(run)
        lengths = _lengths(run.algo, drawn.rows[:MEASURED_ROWS], tokenizer) if drawn else []
        measured = measured or measure(run.model)
        planned["batch"] = _batch(run, run.algo)
        planned["tokens"] = _tokens(run, run.algo, lengths)
        planned["memory"] = _memory(run, run.algo, asked, measured, max(lengths, default=limit))
        planned["time"] = _time(planned["batch"], pace.step)
    planned["estimate"] = _estimate(run, measured, planned)
    planned["detectable"] = _detectable(run, planned["evaluation"]["rows"]) if run.algo.trains else None
    planned["audit"] = audited.as_json() if audited else None
    return planned


def _samples(algo: SelfSampled, drawn: DrawnMix) -> dict[str, int]:
    """What is sampled before a step is made of it, in all rounds. Rows that are preference pairs are taken as they are."""
    rounds = getattr(algo, "rounds", 1)
    taken = [drawn.rows[at % len(drawn.rows)] for at in range(min(algo.prompts, len(drawn.rows)) * rounds)]
    completions = algo.num_generations * sum(not row.example.rejected for row in taken)
    return {"completions": completions, "tokens at most": completions * algo.max_completion_tokens}


def _budget(run: Run, algo: SamplingAlgo) -> dict[str, Any] | None:
    """The budget of generated tokens; what would be generated without it, at most; and the schedule that it cuts short."""
    if not algo.max_generated_tokens:
        return None
    cut = algo.scores_while_training or algo.uses_rollout_engine
    return {
        "tokens": algo.max_generated_tokens,
        "otherwise at most": algo.most_generated_tokens(run),
        "ends": "training" if cut else "sampling",
        "schedule": algo.lr_scheduler_type if cut and algo.lr_scheduler_type != "constant" else None,
    }


def _evaluation(run: Run, pace: dict[str, Any] | None) -> dict[str, Any]:
    """What is asked of the model before training, after it and where it was kept on the way, and how many tokens and seconds that
    can take to answer.

    Rows that are on a hub that cannot be asked are counted by what is published of them; null where that is not known here.
    """
    from medrl.evaluation.evaluate import held_out
    from medrl.evaluation.protocols import evaluated_tasks, protocol

    rows: dict[str, int | None] = {}
    unread = False
    for name in evaluated_tasks(run):
        try:
            rows[name] = len(held_out(run, name))
        except Unreachable:
            rows[name], unread = _published_rows(run, name), True
    answered = sum(count or 0 for name, count in rows.items() if protocol(run, name) == "generative")
    completions = answered * run.eval.samples * run.algo.models_asked
    time = pace and {**pace, "seconds in all": pace["seconds an answer"] * completions}
    found = {"rows": rows, "completions": completions, "tokens at most": completions * run.eval.max_new_tokens, "time": time}
    if unread:
        found["unread"] = True
    elif isinstance(run.model, ApiModel):
        prompts = [messages(each, run.data_mix.tasks[name]) for name in rows for each in held_out(run, name)] * run.eval.samples
        found["usd at most"] = run.model.most_cost(prompts, run.eval.sampling(run.seed))
    return found


def _published_rows(run: Run, name: str) -> int | None:
    """How many rows of a held-out task are asked, by what is published of its size; None where that is not known here."""
    task, limit = run.data_mix.tasks[name], run.eval.limit
    if run.eval.split == "validation":
        known = run.data_mix.validation_rows
    else:
        sizes = packaged(__file__, "published_rows.yaml")
        known = sizes.get(f"{task.kind} {task.test}", getattr(task, "test_cases", None))
    return limit if known is None else min(known, limit or known)


def _estimate(run: Run, measured: Shape | None, planned: dict[str, Any]) -> dict[str, Any] | None:
    """Seconds of training and of answering, for what nothing was measured of; None on a card that is not known."""
    from medrl.algos.base import TrainedAlgo

    measured = measured or (measure(run.model) if run.hardware.known_card and run.model.runs_here else None)
    if measured is None or not (found := duration.pace(run, measured)):
        return None
    new, steps = run.eval.max_new_tokens, planned["batch"].get("steps in all")
    prompt = min(run.data_mix.max_prompt_tokens, run.model.context_tokens - new)
    answers = duration.of_answers(run, found, planned["evaluation"]["completions"], prompt, new)
    seconds: dict[str, Any] = {
        "card": found.card.name,
        "shared": run.hardware.runs_per_gpu > 1,
        "step": None,
        "training": None,
        "evaluation": answers,
    }
    if isinstance(run.algo, TrainedAlgo):
        took = duration.of_training(run, run.algo, found, min(planned["tokens"]["mean"], run.algo.max_prompt_tokens(run)))
        seconds |= {"step": took.step, "training": steps and took.before + steps * took.step}
    return seconds


def _pass_rate(algo: SamplingAlgo, drawn: DrawnMix) -> dict[str, Any] | None:
    """What is asked of the model before training to choose among its rows."""
    if not algo.measures_pass_rate:
        return None
    completions = algo.pass_rate_samples * len({row.example for row in drawn.rows})
    asked = {"samples": algo.pass_rate_samples, "completions": completions, "easy_first": algo.easy_first}
    return {**asked, "pass_rate": algo.pass_rate, "tokens at most": completions * algo.max_completion_tokens}


def _shots(run: Run, tokenizer: Any) -> dict[str, dict[str, Any]]:
    """What the demonstrations of each held-out task take (`evaluate.Shown`)."""
    from medrl.evaluation import evaluate

    return {name: found._asdict() for name, found in evaluate.shown(run, tokenizer).items()}


def _detectable(run: Run, rows: dict[str, int | None]) -> dict[str, dict[str, float | None]]:
    """For each task that has an accuracy, the change that so many examples can show, by the share of them that will change."""
    from medrl.evaluation.protocols import protocol

    return {name: power.planned(count) for name, count in rows.items() if count and protocol(run, name) != "perplexity"}


def audit_of(run: Run, drawn: DrawnMix, *, dry: bool) -> Audit | None:
    """The reward audit, for algorithms that train on rewards; a dry run leaves rewards out that load weights."""
    from medrl.planning.reward_audit import GOLD, audit

    if not run.algo.uses_rewards:
        return None
    rewards = run.reward_set
    if dry:
        kept = {name: reward for name, reward in rewards.rewards.items() if not reward.loads_weights}
        if left_out := [name for name in rewards.rewards if name not in kept]:
            print(f"audit    without {', '.join(left_out)}: a dry run loads no weights")
        if not kept:
            return None
        rewards = replace(rewards, rewards=kept)
    found = audit(rewards, [row for row in drawn.rows if not row.example.rejected])
    if rewards == run.reward_set:
        return found
    # Rewards that are left out may well say something about a task of which the others say nothing.
    return replace(found, findings=tuple(finding for finding in found.findings if finding.probe != GOLD))


def _batch(run: Run, algo: TrainedAlgo) -> dict[str, Any]:
    micro, accumulation = run.hardware.split(algo.batch_size)
    epoch = algo.steps_per_epoch(run)
    return {
        "sequences a step": algo.batch_size,
        "rows a step": algo.batch_size // algo.group,
        "micro-batch": micro,
        "accumulation": accumulation,
        "processes": run.hardware.processes,
        "steps": algo.max_steps,
        "epochs": algo.epochs,
        "steps an epoch": epoch,
        "steps in all": algo.max_steps if algo.max_steps is not None else epoch and ceil((algo.epochs or 0) * epoch),
    }


def _lengths(algo: TrainedAlgo, rows: list[TrainingRow], tokenizer: Any) -> list[int]:
    """Tokens of what is known of each row before anything is generated."""
    rendering = Rendering(tokenizer)
    return [len(rendering.ids(algo.prompt_messages(row))) for row in rows]


def _tokens(run: Run, algo: TrainedAlgo, lengths: list[int]) -> dict[str, Any]:
    """Tokens of an optimizer step, all devices together, padding left out; at the limits where no row was measured."""
    limit = algo.max_prompt_tokens(run)
    mean = statistics.fmean(lengths) if lengths else limit
    most, drawn = (algo.footprint(run, known) for known in (limit, min(round(mean), limit)))
    return {
        "a step at most": algo.batch_size * most.sequences * most.tokens,
        "a step as drawn": algo.batch_size * drawn.sequences * drawn.tokens,
        "longest sequence": most.tokens,
        "completion at most": most.tokens - algo.max_prompt_tokens(run),
        "rows measured": len(lengths),
        "mean": round(mean, 1),
        "longest": max(lengths, default=limit),
    }


def _memory(run: Run, algo: TrainedAlgo, asked: Run, measured: Shape | None, longest: int) -> dict[str, Any] | None:
    """The estimate for the longest sequences that the limits allow, and its peak for the longest that were measured."""
    if measured is None:
        return None
    most = estimate(run, algo, measured, algo.max_prompt_tokens(run))
    drawn = estimate(run, algo, measured, min(longest, algo.max_prompt_tokens(run)))
    room = run.hardware.room_gib
    gpu = int(run.hardware.memory_gib * GIB) if run.hardware.memory_gib else None
    found = {"parts": most.parts, "phases": most.phases, "peak": most.peak, "peak as drawn": drawn.peak, "gpu": gpu}
    if room is None or most.peak <= room * GIB:
        return {**found, "warning": None}
    has = f"{'the GPU' if gpu else 'a process on this machine'} has {in_gib(int(room * GIB))}"
    mend = fit.ways_out(asked, measured) if run.hardware.device == "cuda" else _advice(run, most.largest, measured)
    fits = "" if drawn.peak > room * GIB else f" (rows as drawn: {in_gib(drawn.peak)}, which fits)"
    said = f"{in_gib(most.peak)} are estimated at the limits{fits} and {has}; most of it, {in_gib(most.parts[most.largest])}, are"
    return {**found, "warning": f"{said} {most.largest}: {mend}"}


def _advice(run: Run, largest: str, measured: Shape) -> str:
    """What makes the largest part smaller on a CPU, and a micro-batch with which the run fits where there is one."""
    advice: dict[str, str] = packaged(__file__, "memory_advice.yaml")
    checkpointed = largest == "activations" and run.hardware.gradient_checkpointing
    split = fit.smaller_split(run, measured)
    return advice["activations with checkpointing" if checkpointed else largest] + (f"; {split}" if split else "")


def pace(run: Run, folder: Path) -> Pace:
    """What a step and an answer took in this run so far, or else in a finished run beside it that differs in the seed alone."""
    steps, answers = itertools.tee(_alike(run, folder))
    return Pace(_first(_step, steps), _first(_answer, answers))


def _first(measure: Callable[[Path], dict[str, Any] | None], folders: Iterable[Path]) -> dict[str, Any] | None:
    """What the first of the folders says that says anything; a damaged one says nothing, and stops no run that asks it."""
    for folder in folders:
        try:
            found = measure(folder)
        except (OSError, UserError, LookupError, TypeError, ValueError):
            continue
        if found:
            return found
    return None


def _alike(run: Run, folder: Path) -> Iterator[Path]:
    """The folder of a run, and of the newest beside it those that differ in the seed alone."""
    from medrl.config import build, frozen

    yield folder
    family = family_id(run)
    for path in sorted(folder.parent.glob("*/metrics.json"), key=_changed, reverse=True)[:LOOKED_AT]:
        try:
            alike = read_json(path, needs=("family",))["family"] == family
            if alike and build.build(frozen.load(path.parent)["hardware"]) == run.hardware:
                yield path.parent
        except (OSError, ValueError, LookupError, TypeError, UserError):  # being written, or another program's
            continue


def _changed(path: Path) -> int:
    """When a file was written last; 0 of one that has gone meanwhile."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _step(folder: Path) -> dict[str, Any] | None:
    log = folder / "train" / "log.jsonl"
    seconds = [line["seconds"] for line in read_jsonl(log, needs=("seconds",))]
    return {"log": str(log), "steps": len(seconds), "median seconds": statistics.median(seconds)} if seconds else None


def _answer(folder: Path) -> dict[str, Any] | None:
    from medrl.tracking import run_folder

    answers, seconds = 0, 0.0
    for stage in run_folder.stages(folder):
        if stage["stage"] == "evaluate" and stage["end"] and (stage["files"] or "processes" in stage):
            answers += sum(len(read_jsonl(folder / name)) for name in stage["files"])
            seconds += _seconds(stage)
    record = str(folder / "provenance.json")
    return {"stages": record, "answers": answers, "seconds an answer": seconds / answers} if answers else None


def _seconds(stage: dict[str, Any]) -> float:
    """How long a stage took; by the machine's two times where it is of before the seconds were counted."""
    if "seconds" in stage:
        return float(stage["seconds"])
    return (datetime.fromisoformat(stage["end"]) - datetime.fromisoformat(stage["begin"])).total_seconds()


def _time(batch: dict[str, Any], pace: dict[str, Any] | None) -> dict[str, Any] | None:
    if pace is None:
        return None
    seconds, epoch, whole = pace["median seconds"], batch["steps an epoch"], batch["steps in all"]
    return {**pace, "epoch seconds": epoch and seconds * epoch, "seconds in all": whole and seconds * whole}


def describe(plan: dict[str, Any]) -> str:
    """The plan for the terminal: ``plan.txt.jinja``."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["size"] = in_gib
    template = Path(__file__).with_name("plan.txt.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(plan).rstrip("\n")


def check_room(run: Run, policy: Any, folder: Path) -> None:
    """Raises `UserError` where the free disk is less than what the checkpoints will take."""
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    weights = sum(parameter.numel() * parameter.element_size() for parameter in policy.parameters())
    # A full checkpoint holds the weights and AdamW's two moments in float32; an adapter is small beside its base.
    checkpoint = weights // 10 if run.model.lora else weights + 8 * parameters
    needed = 3 * checkpoint + SPARE_BYTES  # two kept and one being written
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 2**30:.1f} GiB free and the checkpoints need {needed / 2**30:.1f} GiB; "
            "make room or set runs=FOLDER to another disk."
        )
