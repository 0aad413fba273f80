"""Hydra's side of ``python -m medrl -m``: which points are left, and a launcher that runs them on this machine.

Hydra finds plugins in this namespace alone, and imports them at every start: nothing heavy is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

SWEEPER = {"_target_": "hydra_plugins.medrl_multirun.PendingPoints", "pending": [], "gpus": [], "runs_per_gpu": [], "cwd": "."}
"""``hydra/sweeper=medrl``; its values are set by `medrl.jobs.multirun`."""
LAUNCHER = {"_target_": "hydra_plugins.medrl_multirun.JobLauncher", "jobs": None}
"""``hydra/launcher=medrl``: ``jobs`` points at once; null for as many as the visible GPUs serve, and one on a CPU."""

ConfigStore.instance().store(group="hydra/sweeper", name="medrl", node=SWEEPER, provider="medrl")
ConfigStore.instance().store(group="hydra/launcher", name="medrl", node=LAUNCHER, provider="medrl")


class PendingPoints(Sweeper):
    """Every combination of the values, as Hydra's own, without the points that are finished already."""

    def __init__(self, pending: Sequence[int], gpus: Sequence[int], runs_per_gpu: Sequence[int], cwd: str) -> None:
        """Args:
        pending: Numbers of the points to launch.
        gpus: How many each of them claims.
        runs_per_gpu: How many share each of those.
        cwd: Folder that the command was given in; relative paths of the configuration start there.
        """
        self.pending = pending

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Launch what is pending.

        Raises:
            SystemExit: the launcher failed, and with what; Hydra would print a traceback.
        """
        from medrl.config import compose

        points = compose.points(arguments)
        try:
            returns = self._launcher.launch([points[number] for number in self.pending], initial_job_idx=0)
            return [each.return_value for each in returns]
        except Exception as error:  # a plugin's own, of any kind; the results of the points are on the disk
            raise SystemExit(f"{type(error).__name__}: {str(error).strip()}") from None


class JobLauncher(Launcher):
    """Points as jobs of this machine, several at once where there are GPUs for them."""

    def __init__(self, jobs: int | None) -> None:
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from medrl.jobs import launcher_task

        numbered = enumerate(job_overrides, initial_job_idx)
        points = [launcher_task.Point.of(self.config.hydra, number, overrides) for number, overrides in numbered]
        launcher_task.run_here(points, self.jobs)
        return []
