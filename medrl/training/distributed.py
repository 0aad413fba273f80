"""The processes that train a run together: which one this is, and how they meet and agree."""

from __future__ import annotations

import os

SHARE = "MEDRL_SHARE"
"""Variable of `share`: ``1/4`` is the second of four."""


def rank() -> int:
    """Number of this process among all that train; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def share() -> tuple[int, int]:
    """Number of this process among those that answer a run's questions together, and how many there are: it writes every so
    many-th answer. (0, 1) where it is alone.
    """
    number, _, count = os.environ.get(SHARE, "0/1").partition("/")
    return int(number), int(count)


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
    return bool(flag)


def wait_for_all() -> None:
    """Go on when every process has come here; nothing where this one is alone."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
