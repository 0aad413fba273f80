"""The one way in which every algorithm drives a trainer: resume, log, stop on a signal, write the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from medrl import files
from medrl.algos import token_budget
from medrl.algos.base import Algo, Job
from medrl.errors import Interrupted, UserError
from medrl.tracking import run_folder
from medrl.training import checkpoints, distributed, finite, lora_pass, schedule, second_judge


def run_trainer(trainer: Any, job: Job, out: Path, algo: Algo) -> None:
    """Train with TRL's trainer from the newest whole checkpoint and write the model to ``out``; ``algo`` says when a stop is
    possible, and gives the model its last touch. Raises `Interrupted` at a signal, when its checkpoint is written.
    """
    budget = getattr(algo, "max_generated_tokens", None)
    fit(trainer, job, job.folder / "log.jsonl", algo.checkpoint_every, budget=budget)
    write_model(trainer, job, out, algo)


def fit(trainer: Any, job: Job, log: Path, checkpoint_every: int = 1, before: int = 0, budget: int | None = None) -> None:
    """Train any trainer of TRL's from the job's checkpoint, with a line of ``log`` for each step; lines of steps that are done
    again are cut off first, and it counts on after ``before`` steps of earlier rounds. A stop waits for a multiple of
    ``checkpoint_every`` steps, and so does the end of training where a ``budget`` of generated tokens is reached.

    Raises `Interrupted` at a signal, when its checkpoint is written; `NotLoaded` where the checkpoint cannot be gone on from;
    `UserError` where a loss, a gradient or a weight is no finite number, or the log lacks steps of the checkpoint.
    """
    from transformers import PrinterCallback

    done = checkpoints.step_of(job.checkpoint) if job.checkpoint else 0
    lora_pass.prepare(trainer.model)
    trainer.remove_callback(PrinterCallback)
    first = distributed.rank() == 0
    tracker = run_folder.callback(log, before, job.run.eval.eval_steps, job.ask if first else None, job.note)
    watched = job.run.reward_set.monitor
    watching = second_judge.callback(job, watched, checkpoint_every, done) if watched else None
    if watching:
        trainer.add_callback(watching)  # before what writes the log, which its numbers are a part of
    trainer.add_callback(token_budget.callback(job.generated, budget, checkpoint_every))  # before what writes the log, too
    completions: dict[str, str] = {}
    if first:
        completions = checkpoints.check_completions(job.folder, job.checkpoint)
        lines = checkpoints.restore_log(log, job.checkpoint, before + done)
        job.generated.count = token_budget.logged(lines)
        if hasattr(trainer, "_total_train_tokens"):  # which those of TRL's trainers that count here keep in no checkpoint
            trainer._total_train_tokens = next((line["num_tokens"] for line in reversed(lines) if "num_tokens" in line), 0)
        trainer.add_callback(tracker)
    # A step that went wrong is logged, and then ends the run before a checkpoint of it is written.
    own = (schedule.callback(), finite.callback(before), *checkpoints.callbacks(job.stop, checkpoint_every, log, completions))
    for callback in (first_step := checkpoints.first_step(), *own):
        trainer.add_callback(callback)
    try:
        with job.stop.held(), finite.explained(trainer, before):
            trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    except Exception as error:
        if first_step.begun or not job.checkpoint or isinstance(error, UserError):
            raise
        raise checkpoints.NotLoaded(job.checkpoint, error) from error
    finally:
        tracker.close()
    if watching:
        watching.stop(trainer.state.global_step)
    if job.stop.signal is not None and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(
            f"Stopped after step {trainer.state.global_step} of {trainer.state.max_steps}, with a checkpoint written. "
            "Run the same command again to go on.",
            job.stop.signal,
        )


def write_model(trainer: Any, job: Job, out: Path, algo: Algo) -> None:
    """Adapter or weights, tokenizer and generation config, in one step: what plain transformers and peft load."""
    finite.check_weights(trainer.model, "After training")
    partial = out.with_name(out.name + ".partial")
    if distributed.rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
    distributed.wait_for_all()
    if job.run.hardware.sharding == "fsdp":
        write_sharded(trainer.model, partial)
    else:
        trainer.save_model(str(partial))  # by all: each holds its share of sharded weights
    distributed.wait_for_all()
    if distributed.rank() > 0:
        return
    check_written(trainer.model, partial)
    if config := getattr(trainer.model, "generation_config", None):  # which a classifier lacks
        config.save_pretrained(partial)  # and TRL leaves out beside an adapter
    job.tokenizer.save_pretrained(partial)
    for stray in ("training_args.bin", "README.md"):  # they carry paths of the machine
        (partial / stray).unlink(missing_ok=True)
    sort_adapter_config(partial / "adapter_config.json")
    algo.finish(job, partial)
    checkpoints.mark_complete(partial)
    partial.replace(out)


def sort_adapter_config(path: Path) -> None:
    """Put the names of layers in an adapter's configuration in order: peft holds them as sets, whose order differs from process
    to process. Nothing for a model without one.
    """
    if path.exists():
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {key: sorted(config[key]) for key in ("target_modules", "modules_to_save") if isinstance(config.get(key), list)}
        files.write_atomically(path, json.dumps(config, indent=2, sort_keys=True))


def write_sharded(model: Any, folder: Path) -> None:
    """Put what was trained together from all processes, each of which has to ask, and write it from the first.

    What the trainer gathers itself does not arrive: FSDP2's state dictionaries are sharded unless asked otherwise, and peft
    looks for an adapter's tensors under the names of its modules, into which recomputed activations put one of their own.
    """
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper

    for parent in [*model.modules()]:
        for name, child in [*parent.named_children()]:
            if isinstance(child, CheckpointWrapper):
                setattr(parent, name, child._checkpoint_wrapped_module)
    whole = {name: each.full_tensor().cpu() for name, each in model.named_parameters() if each.requires_grad}
    if distributed.rank() == 0:
        model.save_pretrained(folder, state_dict=whole)


def check_written(model: Any, folder: Path) -> None:
    """Raises `UserError` for fewer weights than were trained: sharded ones have to be gathered, which can fail in silence."""
    from safetensors import safe_open

    trained = len([each for each in getattr(model, "policy", model).parameters() if each.requires_grad])
    written = 0
    for file in [*folder.glob("adapter_model*.safetensors")] or [*folder.glob("model*.safetensors")]:
        opened: Any = safe_open(file, "pt")
        written += len(opened.keys())
    if written < trained:
        raise UserError(
            f"{folder} holds {written} tensors, and {trained} were trained: they could not be gathered from all processes. "
            "The newest checkpoint is kept; run the same command again with hardware.sharding=none."
        )
