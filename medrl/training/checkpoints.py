"""Exact resume: which checkpoints are whole, and how a signal becomes one.

A checkpoint counts once ``complete.json`` stands in it, written last, with the size of every file: one torn by a kill
or a full disk is never resumed from. Continuing from a whole one gives the weights of a run that was never stopped,
bit for bit on a CPU, because the trainer's checkpoint carries optimizer, schedule and every random state, and because
`log.jsonl` is cut back to it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from medrl.files import write_atomically
from medrl.jobs.shutdown import GracefulShutdown
from medrl.training import distributed

COMPLETE = "complete.json"


def mark_complete(checkpoint: Path) -> None:
    """Mark a checkpoint as whole, once everything in it has reached the disk."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)  # of a checkpoint that is written again
    sizes = {}
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sizes[str(path.relative_to(checkpoint))] = path.stat().st_size
    write_atomically(checkpoint / COMPLETE, json.dumps(sizes, indent=1))


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was marked and every file still has its size."""
    try:
        sizes = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint under a training folder that there are steps to do from; torn ones are removed.

    One of the last step is passed over: a run that was killed between it and its ``model/`` does the last steps again, because
    transformers would take one too many from there.
    """
    whole = []
    for checkpoint in (path for path in folder.glob("checkpoint-*") if path.is_dir()):
        if is_complete(checkpoint):
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max((checkpoint for checkpoint in whole if not _is_last(checkpoint)), key=step_of, default=None)


def _is_last(checkpoint: Path) -> bool:
    """Whether nothing is left to do after it, as transformers' own state of it says."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return bool(state["global_step"] >= state["max_steps"])


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done when a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def callbacks(shutdown: GracefulShutdown, checkpoint_every: int) -> list[Any]:
    """Trainer callbacks that mark each checkpoint as complete and turn a signal into one.

    Args:
        shutdown: Records the signals.
        checkpoint_every: A stop waits for a multiple of this many steps, where the trainer holds no half-used generations.
    """
    from transformers import TrainerCallback

    class MarkComplete(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            distributed.wait_for_all()  # each process writes its own random state
            if state.is_world_process_zero:
                folder = Path(args.output_dir)
                checkpoint = folder / f"checkpoint-{state.global_step}"
                for written in (folder, checkpoint):  # by TRL and peft, which do not know what was trained
                    (written / "README.md").unlink(missing_ok=True)
                mark_complete(checkpoint)

    class StopAfterStep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            # Asked of all: a signal reaches processes at different steps, and all have to stop after the same one.
            if state.global_step % checkpoint_every == 0 and distributed.agreed(shutdown.signal is not None):
                if shutdown.signal is None:  # another process has it
                    shutdown.signal = signal.SIGTERM
                control.should_save = control.should_training_stop = True
            return control

    return [MarkComplete(), StopAfterStep()]
