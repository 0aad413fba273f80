"""Where a run is shown while it goes on: W&B, or TensorBoard or trackio, whose own libraries write to this machine.

Of the last two nothing is remembered of what was sent: ``train/log.jsonl`` and ``metrics.json`` hold all of it, so each command
writes the run there anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from medrl.config.frozen import Tree
from medrl.config.schema import Run, family_id
from medrl.tracking import wandb
from medrl.tracking.wandb import Follower


class Tracker(Protocol):
    """Takes the numbers of one run."""

    place: str
    """How they are looked at."""

    def log(self, values: Mapping[str, float], *, step: int) -> None: ...

    def finish(self) -> None: ...


class TensorBoard:
    """Event files in the run folder."""

    def __init__(self, tree: Tree, settings: Run, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        written = folder / "tensorboard"
        shutil.rmtree(written, ignore_errors=True)
        self.place = f"tensorboard --logdir {folder.parent}"
        self._writer: Any = SummaryWriter(str(written))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class Trackio:
    """A run in trackio's database, which lies where ``TRACKIO_DIR`` says."""

    def __init__(self, tree: Tree, settings: Run, folder: Path) -> None:
        import trackio

        self.project, self.name, self.logged = settings.logger.project, folder.name, False
        self.place = f"trackio show --project {self.project}"
        about = {"config": wandb.flattened(tree), "auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
        with redirect_stdout(StringIO()):  # it greets, and says how to look at it
            self._run: Any = trackio.init(self.project, self.name, f"{settings.name}-{family_id(settings)}", **about)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(values), step=step)
        self.logged = True

    def finish(self) -> None:
        """Also removes what an earlier command wrote of the same run; before the first number trackio has no project to ask."""
        import trackio

        with redirect_stdout(StringIO()):
            trackio.finish()
            for run in trackio.Api().runs(self.project) if self.logged else ():
                if run.name == self.name and run.id != self._run.id:
                    run.delete()


LOCAL: dict[str, Callable[[Tree, Run, Path], Tracker]] = {"tensorboard": TensorBoard, "trackio": Trackio}


@contextmanager
def following(tree: Tree, settings: Run, folder: Path) -> Iterator[None]:
    """Forward, while the block runs, what it writes to the run folder, and ``metrics.json`` at its end, as `Logger` says. Raises
    `UserError` where W&B does not take the run, before anything was done.
    """
    mode = settings.logger.mode
    if mode not in LOCAL:
        with wandb.following(tree, settings, folder):
            yield
        return
    tracker = LOCAL[mode](tree, settings, folder)
    print(f"{mode:<8} {tracker.place}", flush=True)
    follower = Follower(folder / "train" / "log.jsonl", -1, tracker.log, lambda step: None, mode)
    follower.start()
    try:
        yield
    finally:
        follower.stop()
        if values := wandb.final(folder):
            tracker.log(values, step=follower.step + 1)
        tracker.finish()


def catch_up(tree: Tree, settings: Run, folder: Path) -> None:
    """Forward a run that is finished, where that is left to do. Raises `UserError` where W&B does not take the run."""
    if settings.logger.mode not in LOCAL:
        wandb.catch_up(tree, settings, folder)
    else:
        with following(tree, settings, folder):
            pass
