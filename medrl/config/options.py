"""Which options the groups of the configuration have: the YAML files of a folder. One whose name begins with ``_`` is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medrl.config import frozen

NAMED = ("paper", "study")
"""The groups under ``experiments``, which are groups before they have an option."""
LATER = ("chain", "hydra")
"""Folders that hold no options of a run: chains are read by `medrl.jobs.chain`, Hydra's own by Hydra."""


def folders(more: Sequence[Path] = ()) -> list[Path]:
    """Where groups are looked for: ``conf``, ``experiments``, and folders that a user adds with ``hydra.searchpath``."""
    return [frozen.root("conf"), frozen.root("experiments"), *more]


def group_options(group: str, more: Sequence[Path] = ()) -> list[str]:
    """Options of a group; empty where there is no such group."""
    found = (path.stem for folder in folders(more) if group for path in (folder / group).glob("*.yaml"))
    return sorted({option for option in found if not option.startswith("_")})


def groups() -> Iterator[str]:
    """Every group that has options, those inside another one (``model/lora``) among them."""
    for folder in folders():
        for path in sorted(path for path in folder.rglob("*") if path.is_dir()):
            group = path.relative_to(folder).as_posix()
            if group.split("/")[0] not in LATER and group_options(group):
                yield group
