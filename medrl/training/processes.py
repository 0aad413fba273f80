"""Training and answering in several processes, one a device: the parent starts them, forwards signals, and reports the first
failure.

The parent composes, checks and freezes; the processes read ``config.yaml`` of the run folder and nothing else. They get
torchrun's variables, so that accelerate and TRL work as they do below torchrun. Why torchrun does not start them:
docs/decisions/0013.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrl.config import extensions
from medrl.errors import Interrupted, UserError
from medrl.jobs import job
from medrl.jobs.job import Job
from medrl.jobs.shutdown import GracefulShutdown
from medrl.training import distributed
from medrl.training.hardware import visible_gpus

if TYPE_CHECKING:
    from medrl.training.hardware import Hardware


def in_processes(hardware: Hardware, folder: Path, shutdown: GracefulShutdown) -> None:
    """Train with ``python -m medrl.training.worker FOLDER`` once a device of this node and wait for all of them. Raises
    `UserError` where one failed, `Interrupted` at a signal, when every process has ended with a checkpoint written.
    """
    _all(folder, "train", (), environments(hardware, os.environ), shutdown, "The newest checkpoint is kept")


def answering(hardware: Hardware, folder: Path, whiches: Sequence[str], shutdown: GracefulShutdown) -> None:
    """Let each device of this node answer its share of a run's questions: ``python -m medrl.training.worker FOLDER MODEL...``.
    The processes do not know of one another. Raises as `in_processes`.
    """
    shown = visible_gpus() if hardware.device == "cuda" else ()
    alone = [
        {**os.environ, distributed.SHARE: f"{number}/{hardware.gpus}", "OMP_NUM_THREADS": _threads(hardware, os.environ)}
        | ({"CUDA_VISIBLE_DEVICES": shown[number]} if shown else {})
        for number in range(hardware.gpus)
    ]
    _all(folder, "eval", whiches, alone, shutdown, "What was answered is kept")


def _all(
    folder: Path,
    part: str,
    words: Sequence[str],
    variables: Sequence[dict[str, str]],
    shutdown: GracefulShutdown,
    kept: str,
) -> None:
    (folder / part).mkdir(exist_ok=True)
    jobs = []
    for number, environment in enumerate(variables):
        # All would print the same; and the others end in tracebacks of no interest where one leaves them alone.
        log = folder / part / f"process-{number}.log" if number else None
        if log:
            log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "medrl.training.worker", str(folder), *words, *extensions.words()]
        jobs.append(Job(command, log=log, environment=environment))
    failed = job.run(jobs, shutdown)
    if failed is None:
        return
    if shutdown.signal is not None:
        raise Interrupted(f"Stopped; {kept[0].lower()}{kept[1:]}. Run the same command again to go on.", shutdown.signal)
    said = f"its last words:\n{failed.last_words()}\n" if failed.log else "its message is above. "
    raise UserError(
        f"Process {jobs.index(failed)} of {len(jobs)} failed ({failed.result}); {said}"
        f"{kept}: mend it and run the same command again."
    )


def environments(hardware: Hardware, inherited: Mapping[str, str]) -> list[dict[str, str]]:
    """The variables of each process of this node, as torchrun sets them."""
    address, _, port = (hardware.rendezvous or f"127.0.0.1:{_free_port()}").rpartition(":")
    shared = {
        **inherited,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "WORLD_SIZE": str(hardware.processes),
        "LOCAL_WORLD_SIZE": str(hardware.gpus),
        "OMP_NUM_THREADS": _threads(hardware, inherited),
    }
    return [
        {**shared, "RANK": str(hardware.node_rank * hardware.gpus + local), "LOCAL_RANK": str(local)}
        for local in range(hardware.gpus)
    ]


def _threads(hardware: Hardware, inherited: Mapping[str, str]) -> str:
    """As torchrun: without it every process would start a thread for each core of the machine."""
    return inherited.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // hardware.gpus))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
