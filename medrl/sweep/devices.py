"""Which GPU a worker has: one each where there are several, so that points do not share one."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medrl.config.frozen import Tree
from medrl.errors import UserError
from medrl.hardware import detected_gpus
from medrl.sweep.journal import claimed


def visible() -> list[str]:
    """The GPUs of this process as ``CUDA_VISIBLE_DEVICES`` names them."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is None:
        return [str(number) for number in range(len(detected_gpus()))]
    return [entry.strip() for entry in said.split(",") if entry.strip() not in ("", "-1")]


def workers(asked: int | None, tree: Tree) -> int:
    """How many points run at once: as asked, or one for each GPU that a point needs, or one.

    Args:
        asked: ``workers=`` of the command line.
        tree: The configuration of a point.

    Raises:
        UserError: more are asked than the GPUs of this machine serve.
    """
    needed, found = tree["hardware"]["gpus"], len(visible()) if tree["hardware"]["device"] == "cuda" else 0
    if found <= 1:
        return asked or 1
    if asked and asked * needed > found:
        raise UserError(
            f"workers={asked} with {needed} GPU(s) a point need {asked * needed}, and there are {found}; ask for fewer."
        )
    return asked or max(1, found // needed)


def environment(ids: Sequence[str], at_once: int, tree: Tree) -> dict[str, str]:
    """Variables of a point's process: its GPUs, and a share of the cores where nothing else says how many threads to start."""
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(ids)} if ids else {}
    if tree["hardware"]["device"] == "cpu" and at_once > 1 and "OMP_NUM_THREADS" not in os.environ:
        # As torchrun: without it each process would start a thread for every core.
        chosen["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // at_once))
    return chosen


@dataclass(frozen=True)
class Taken:
    """GPUs that a point has for itself."""

    ids: tuple[str, ...]
    """As ``CUDA_VISIBLE_DEVICES`` names them; none where there is nothing to choose between."""
    claims: tuple[IO[str], ...]


def taken(folder: Path, tree: Tree) -> Taken | None:
    """Claim as many GPUs as a point needs; None while they are in use.

    Args:
        folder: Of the claims.
        tree: The configuration of the point.
    """
    ids = visible() if tree["hardware"]["device"] == "cuda" else []
    if len(ids) <= 1:
        return Taken((), ())
    found: dict[str, IO[str]] = {}
    for number in ids:
        if len(found) < tree["hardware"]["gpus"] and (file := claimed(folder / f"gpu-{platform.node()}-{number}")):
            found[number] = file
    if len(found) == tree["hardware"]["gpus"]:
        return Taken(tuple(found), tuple(found.values()))
    for file in found.values():
        file.close()
    return None
