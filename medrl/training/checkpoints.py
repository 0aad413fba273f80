"""Exact resume: which checkpoints are whole, and how a signal becomes one.

A checkpoint counts once ``complete.json`` stands in it, written last, with the SHA-256 of every file: one torn by a kill or a
full disk, or damaged later, by one bit too, is never resumed from. ``model/`` has the same file. Continuing from a whole one
gives the weights of a run that was never stopped, bit for bit on a CPU, because the trainer's checkpoint carries optimizer,
schedule and every random state, and beside them the log of the steps that it is made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.files import read_json, read_jsonl, write_atomically, write_jsonl
from medrl.jobs.shutdown import GracefulShutdown, drop_dead_output
from medrl.training import distributed

COMPLETE = "complete.json"
LOG = "log.jsonl"
COMPLETIONS = "completions"
"""Folder of a training that holds what was generated, a file a logged step; a checkpoint has their hashes under this name."""


class NotLoaded(UserError):
    """A checkpoint whose bytes are those that were written, and which cannot be gone on from."""

    def __init__(self, checkpoint: Path, cause: Exception) -> None:
        """``cause`` is what the trainer's libraries raised."""
        self.checkpoint = checkpoint
        self.said = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
        super().__init__(
            f"{checkpoint} does not load ({self.said}). Mend that, or remove it: the same command then takes the one before."
        )


def mark_complete(folder: Path, files: Collection[Path] = ()) -> None:
    """Mark a checkpoint or a model as whole, once everything in it, or these files of it, has reached the disk."""
    (folder / COMPLETE).unlink(missing_ok=True)  # of a checkpoint that is written again
    paths = sorted(files or (path for path in folder.rglob("*") if path.is_file()))
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    digests = dict(zip([path.relative_to(folder).as_posix() for path in paths], _digests(paths), strict=True))
    write_atomically(folder / COMPLETE, json.dumps(digests, indent=1))


def fault(folder: Path) -> str:
    """What tells a checkpoint or a model from what was written; empty where it is whole."""
    try:
        written = read_json(folder / COMPLETE, "")
        paths = [folder / name for name in written]
        if lacking := [path.name for path in paths if not path.is_file()]:
            return f"{lacking[0]} is missing"
        if not all(isinstance(about, str) for about in written.values()):  # sizes alone, of before there were hashes
            now: list[Any] = [path.stat().st_size for path in paths]
        else:
            now = _digests(paths)
    except FileNotFoundError:
        return f"{COMPLETE} is missing"
    except UserError:
        return f"{COMPLETE} is damaged"
    except OSError as error:
        return f"{error.filename or folder} cannot be read: {error.strerror}"
    changed = [name for name, about in zip(written, now, strict=True) if written[name] != about]
    return f"{changed[0]} is not what was written" if changed else ""


def check_model(folder: Path) -> None:
    """Raises `UserError` where a trained model is not what was written; one of before there were hashes is taken as it is."""
    if (folder / COMPLETE).exists() and (said := fault(folder)):
        raise UserError(
            f"{folder} cannot be loaded ({said}); remove it and run the command that made it again, which writes it anew "
            "from the newest checkpoint, or bring the file back."
        )


def _digests(paths: list[Path]) -> list[str]:
    """SHA-256 of files, several at once."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(digest, paths))


def begun(folder: Path) -> list[Path]:
    """Checkpoints that a trainer has begun under a folder, the newest first; what others have put there is none."""
    ours = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in ours if path.is_dir() and not path.is_symlink()), key=step_of, reverse=True)


def newest(folder: Path, but: Collection[Path] = (), *, verified: bool = False) -> Path | None:
    """The newest whole checkpoint under a training folder that there are steps to do from; those before it are not looked at.

    One that is not whole is removed: nobody can go on from it, and the trainer counts it among the newest that it keeps. One of
    the last step is passed over: a run that was killed between it and its ``model/`` does the last steps again, because
    transformers would take one too many from there.

    Args:
        folder: Where a trainer has put them.
        but: Those that do not load.
        verified: Whether another process of this run has just looked, so that only what is marked is asked.
    """
    for checkpoint in begun(folder):
        marked = (checkpoint / COMPLETE).exists()
        said = "" if verified and marked else fault(checkpoint)
        if said:
            if marked:  # else a kill or a full disk came while it was written, which is no damage
                print(f"resume   {checkpoint} is damaged ({said}): removed, and the one before is taken", flush=True)
            shutil.rmtree(checkpoint)
        elif checkpoint not in but and not _is_last(checkpoint):
            return checkpoint
    return None


def _is_last(checkpoint: Path) -> bool:
    """Whether nothing is left to do after it, as transformers' own state of it says."""
    advice = f"remove {checkpoint}, and the checkpoint before it is taken"
    state = read_json(checkpoint / "trainer_state.json", advice, needs=("global_step", "max_steps"))
    return bool(state["global_step"] >= state["max_steps"])


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done when a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def restore_log(log: Path, checkpoint: Path | None, steps: int) -> list[dict[str, Any]]:
    """Make a log again what it was after so many steps, as the checkpoint keeps it, or else without the lines of later steps; its
    lines. Raises `UserError` where some are missing or damaged, so that curves and costs would lack these steps.
    """
    advice = "bring it back, or start over with force=true: curves and costs would lack these steps"
    kept = checkpoint / LOG if checkpoint else log
    read = read_jsonl(kept if kept.exists() else log, advice, needs=("step", "seconds")) if steps else []
    lines = [line for line in read if line["step"] <= steps]
    if lacking := sorted({*range(1, steps + 1)} - {line["step"] for line in lines}):
        raise UserError(f"{log} lacks step {lacking[0]} of the {steps} that were done; {advice}.")
    write_jsonl(log, lines)
    return lines


def check_completions(folder: Path, checkpoint: Path | None) -> dict[str, str]:
    """Hashes of the completions of the steps before a checkpoint. One that is not what was written is removed, and said: nothing
    is learned from it again, and the report lacks it.
    """
    held = folder / COMPLETIONS
    for path in held.glob("completions_*.parquet"):  # nothing that others have put there
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    kept = checkpoint / f"{COMPLETIONS}.json" if checkpoint else None
    if not kept or not kept.exists():  # the latter of before there were hashes
        return {}
    written = read_json(kept)
    stand = [name for name in written if (held / name).exists()]
    now = dict(zip(stand, _digests([held / name for name in stand]), strict=True))
    for name in [name for name in written if now.get(name) != written[name]]:
        del written[name]
        (held / name).unlink(missing_ok=True)
        print(
            f"resume   {held / name} was {'damaged' if name in now else 'lost'}: the report lacks these completions", flush=True
        )
    return written


def first_step() -> Any:
    """Trainer callback whose ``begun`` says whether a step has begun: before that, a checkpoint is loaded."""
    from transformers import TrainerCallback

    class FirstStep(TrainerCallback):
        begun = False

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.begun = True

    return FirstStep()


def callbacks(shutdown: GracefulShutdown, checkpoint_every: int, log: Path, completions: dict[str, str]) -> list[Any]:
    """Trainer callbacks that mark each checkpoint as complete, with a copy of ``log``, so that it is whole without the file, and
    the hashes of all ``completions``, of which some are known; and that turn a signal into one. A stop waits for a multiple of
    ``checkpoint_every`` steps, where the trainer holds no half-used generations.
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
                shutil.copyfile(log, checkpoint / LOG)
                new = [path for path in (folder / COMPLETIONS).glob("*.parquet") if path.name not in completions]
                new = sorted(
                    path for path in new if int(path.stem.rpartition("_")[2]) <= state.global_step
                )  # not of before a kill
                completions.update(zip([path.name for path in new], _digests(new), strict=True))
                if completions:
                    write_atomically(checkpoint / f"{COMPLETIONS}.json", json.dumps(completions, indent=1))
                mark_complete(checkpoint)

    class StopAfterStep(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            # Asked of all: a signal reaches processes at different steps, and all have to stop after the same one.
            if state.global_step % checkpoint_every == 0 and distributed.agreed(shutdown.signal is not None):
                if shutdown.signal is None:  # another process has it
                    shutdown.signal = signal.SIGTERM
                drop_dead_output()  # or a print fails before the checkpoint is written
                control.should_save = control.should_training_stop = True
            return control

    return [MarkComplete(), StopAfterStep()]
