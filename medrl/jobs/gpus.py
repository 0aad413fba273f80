"""Which GPUs a job has to itself, where several jobs run side by side on one machine."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medrl.errors import UserError
from medrl.jobs import locks
from medrl.training.hardware import show, visible_gpus

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Claim:
    """GPUs, or parts of them, that nobody else claims until the locks are closed."""

    gpus: tuple[str, ...]
    """As ``CUDA_VISIBLE_DEVICES`` names them."""
    locks: tuple[IO[str], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that show a process these GPUs and no others."""
        if not self.gpus:
            return {}
        # The driver's numbers: CUDA's own order is by speed.
        order = {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus), **order}


_own: list[Claim] = []
"""What this process has claimed for itself, as long as it lives: CUDA keeps its devices as long."""


def claim(count: int, runs: int = 1, *, folder: Path | None = None) -> Claim | None:
    """Claim ``count`` of the visible GPUs, all of them or none; None while too few are free. ``runs`` share each, and no run that
    wants one to itself. ``folder`` is of the lock files, whose names carry the host; None for one that all commands of this user
    on this machine share.
    """
    names = visible_gpus() if count else []
    folder = folder or Path(tempfile.gettempdir()) / f"medrl-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[IO[str]]] = {}
    for name in names:
        if len(found) < count and (held := _held(folder / f"gpu-{platform.node()}-{name}", runs)):
            found[name] = held
    files = tuple(file for held in found.values() for file in held)
    if len(found) < min(count, len(names)):
        for file in files:
            file.close()
        return None
    return Claim(tuple(found), files)


def _held(gpu: Path, runs: int) -> list[IO[str]]:
    """The locks of a GPU, or of one of the parts in which ``runs`` share it; none where it is not free."""
    whole = locks.acquire(gpu.with_name(f"{gpu.name}.lock"), shared=runs > 1)
    if whole is None or runs == 1:
        return [whole] if whole else []
    for part in range(runs):
        if lock := locks.acquire(gpu.with_name(f"{gpu.name}-{part}.lock")):
            return [whole, lock]
    whole.close()
    return []


def claim_when_free(count: int, give_up: Callable[[], bool], runs: int = 1, *, folder: Path | None = None) -> Claim | None:
    """The same, waited for; None where ``give_up`` came true before."""
    waiting = False
    while (found := claim(count, runs, folder=folder)) is None:
        if give_up():
            return None
        if not waiting:
            print(f"waiting for {count} of {len(visible_gpus())} GPUs, which other jobs on {platform.node()} have", flush=True)
        waiting = True
        time.sleep(POLL_SECONDS)
    return found


def claim_for_this_process(count: int, runs: int = 1) -> None:
    """See ``count`` GPUs and no others from here on: where more are visible, those that no other run has, once there are so many;
    ``runs`` share each.

    A job of a chain, a multirun or a sweep sees no more than it needs: they are claimed for it already.
    """
    visible = visible_gpus()
    if 0 < count < len(visible):
        claimed = claim_when_free(count, lambda: False, runs)
        assert claimed
        _own.append(claimed)
        visible = claimed.gpus
    show(visible[:count])


def needed(hardware: Mapping[str, Any]) -> int:
    """How many GPUs a run claims, by the section ``hardware`` of its configuration."""
    return int(hardware["gpus"]) if hardware["device"] == "cuda" else 0


def workers(asked: int | None, hardware: Mapping[str, Any]) -> int:
    """How many jobs run at once: as asked, or as many as the visible GPUs serve, or one. Raises `UserError` where they do not
    serve as many.
    """
    count, runs = needed(hardware), hardware["runs_per_gpu"]
    served = at_once(count, runs)
    if count and asked and asked > served and len(visible_gpus()) > 1:
        raise UserError(
            f"workers={asked} with {count} GPU(s) each, which {runs} share, and {len(visible_gpus())} GPUs: they serve {served}; "
            "ask for fewer."
        )
    return asked or served


def at_once(count: int, runs: int) -> int:
    """How many jobs of ``count`` GPUs the visible ones serve, where ``runs`` share each; one at the least."""
    return max(1, len(visible_gpus()) // count * runs) if count else 1


def threads(at_once: int, hardware: Mapping[str, Any]) -> dict[str, str]:
    """Variables of a job that shares the cores with others, on a CPU or on a GPU that it shares: its part of them, where nothing
    else sets the number.
    """
    alone = hardware["device"] != "cpu" and hardware["runs_per_gpu"] == 1
    if alone or at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))}
