"""Training in several processes, one a device: the parent starts them, hands signals on, and reports the first failure.

The parent composes, checks and freezes; the processes read ``config.yaml`` of the run folder and nothing else. They are
started here and not by torchrun, because torchrun answers Ctrl-C by killing its workers after 30 seconds, in which a long
step leaves no checkpoint, and reports a worker's one-line message as a traceback of its own (docs/decisions/0013). The
environment they get is torchrun's, so that everything below them (accelerate, TRL) is where it always is.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from medrl.errors import Interrupted, UserError

if TYPE_CHECKING:
    from medrl.training.checkpoints import Stop
    from medrl.training.hardware import Hardware

POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0
"""How long the other processes get to end by themselves once one has failed."""


def in_processes(hardware: Hardware, folder: Path, stop: Stop) -> None:
    """Run ``python -m medrl.training.worker FOLDER`` once a device of this node and wait for all of them.

    Raises:
        UserError: one failed; its message stands above.
        Interrupted: a signal came, and every process ended with a checkpoint written.
    """
    command = [sys.executable, "-m", "medrl.training.worker", str(folder)]
    logs = [None, *(folder / "train" / f"process-{local}.log" for local in range(1, hardware.gpus))]
    (folder / "train").mkdir(exist_ok=True)
    with stop.held(), ExitStack() as opened:
        processes = []
        for environment, log in zip(environments(hardware, os.environ), logs, strict=True):
            # What one process says, all would; and those that another left alone end in tracebacks of no interest.
            output = opened.enter_context(log.open("wb")) if log else None
            # In a session of its own, so that a terminal's Ctrl-C reaches it once, through the parent.
            processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True))
        try:
            failed = wait(processes, stop)
        finally:
            end(processes)
    if failed is None:
        return
    if stop.signal is not None:
        raise Interrupted("Stopped; the newest checkpoint is kept. Run the same command again to go on.", stop.signal)
    number, code = failed
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    log = logs[number]
    said = f"it said:\n{_last_lines(log)}\n" if log else "its message is above. "
    raise UserError(
        f"Process {number} of {len(processes)} failed ({how}); {said}"
        "The newest checkpoint is kept: mend it and run the same command again."
    )


def _last_lines(log: Path) -> str:
    """The end of what a process said."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:])


def environments(hardware: Hardware, inherited: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of each process of this node, in torchrun's variables."""
    address, _, port = (hardware.rendezvous or f"127.0.0.1:{_free_port()}").rpartition(":")
    # As torchrun: without it every process would start a thread for each core of the machine.
    threads = inherited.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // hardware.gpus))
    shared = {
        **inherited,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "WORLD_SIZE": str(hardware.processes),
        "LOCAL_WORLD_SIZE": str(hardware.gpus),
        "OMP_NUM_THREADS": threads,
    }
    return [
        {**shared, "RANK": str(hardware.node_rank * hardware.gpus + local), "LOCAL_RANK": str(local)}
        for local in range(hardware.gpus)
    ]


def rank() -> int:
    """Number of this process among all that train; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str) -> None:
    """Meet the other processes; nothing where there are none."""
    if size() == 1:
        return
    import torch
    from accelerate import PartialState

    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        # accelerate names the device of each process "cpu:0", which torch.load takes for none it knows.
        torch.serialization.register_package(99, lambda _: None, lambda storage, at: storage if at.startswith("cpu:") else None)
    PartialState(cpu=device == "cpu")


def agreed(mine: bool) -> bool:
    """Whether any process says yes; asked by all of them at the same moment."""
    import torch

    if not torch.distributed.is_initialized():
        return mine
    gpu = torch.distributed.get_backend() == "nccl"
    flag = torch.tensor(int(mine), device="cuda" if gpu else "cpu")
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def wait_for_all() -> None:
    """Go on when every process has come here; nothing where this one is alone."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def wait(processes: Sequence[subprocess.Popen[bytes]], stop: Stop) -> tuple[int, int] | None:
    """Until all have ended: number and exit code of the one that failed first, or None. A signal is handed on once."""
    told, failed, deadline = False, None, math.inf
    while True:
        running = [process for process in processes if process.poll() is None]
        if failed is None:
            failed = next(((number, code) for number, process in enumerate(processes) if (code := process.poll())), None)
            deadline = time.monotonic() + GRACE_SECONDS if failed else math.inf
        if not running:
            return failed
        if stop.signal is not None and not told:
            told = True
            for process in running:
                process.send_signal(signal.SIGTERM)
        if time.monotonic() > deadline:  # they wait in vain for the one that failed
            for process in running:
                process.kill()
        time.sleep(POLL_SECONDS)


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill what still runs, which is nothing unless something here went wrong or a second signal came."""
    for process in processes:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
