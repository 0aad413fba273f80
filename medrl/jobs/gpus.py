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
    """GPUs that nobody else claims until the locks are closed."""

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


def claim(count: int, *, folder: Path | None = None) -> Claim | None:
    """Claim ``count`` of the visible GPUs, all of them or none; None while too few are free. ``folder`` is of the lock files,
    whose names carry the host; None for one that all commands of this user on this machine share.
    """
    names = visible_gpus() if count else []
    folder = folder or Path(tempfile.gettempdir()) / f"medrl-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, IO[str]] = {}
    for name in names:
        if len(found) < count and (lock := locks.acquire(folder / f"gpu-{platform.node()}-{name}.lock")):
            found[name] = lock
    if len(found) < min(count, len(names)):
        for lock in found.values():
            lock.close()
        return None
    return Claim(tuple(found), tuple(found.values()))


def claim_when_free(count: int, give_up: Callable[[], bool], *, folder: Path | None = None) -> Claim | None:
    """The same, waited for; None where ``give_up`` came true before."""
    waiting = False
    while (found := claim(count, folder=folder)) is None:
        if give_up():
            return None
        if not waiting:
            print(f"waiting for {count} of {len(visible_gpus())} GPUs, which other jobs on {platform.node()} have", flush=True)
        waiting = True
        time.sleep(POLL_SECONDS)
    return found


def claim_for_this_process(count: int) -> None:
    """See ``count`` GPUs and no others from here on: where more are visible, those that no other run has, once there are so many.

    A job of a chain, a multirun or a sweep sees no more than it needs: they are claimed for it already.
    """
    visible = visible_gpus()
    if 0 < count < len(visible):
        claimed = claim_when_free(count, give_up=lambda: False)
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
    count = needed(hardware)
    found = len(visible_gpus()) if count else 0
    if found <= 1:
        return asked or 1
    if asked and asked * count > found:
        raise UserError(f"workers={asked} with {count} GPU(s) each need {asked * count}, and there are {found}; ask for fewer.")
    return asked or max(1, found // count)


def threads(at_once: int, hardware: Mapping[str, Any]) -> dict[str, str]:
    """Variables of a job on a CPU that shares it with others: its share of the cores, where nothing else sets the number."""
    if hardware["device"] != "cpu" or at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))}
