"""The YAML files of the configuration: options of the groups and where each lies. One that begins with ``_`` is no option."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from medrl.config import extensions, frozen

NAMED = ("paper", "study")
"""The groups under ``experiments``, which are groups before they have an option."""
LATER = ("chain", "hydra")
"""Folders that hold no options of a run: chains are read by `medrl.jobs.chain`, Hydra's own by Hydra."""


def folders(more: Sequence[Path] = ()) -> list[Path]:
    """Where groups are looked for: ``conf``, ``experiments``, extensions, and what a user adds with ``hydra.searchpath``."""
    return [frozen.root("conf"), frozen.root("experiments"), *(each.conf for each in extensions.known()), *more]


def added_folders(search_path: Iterable[str]) -> list[Path]:
    """The folders of a ``hydra.searchpath``, which Hydra has as ``file:///FOLDER``."""
    return [Path(entry.removeprefix("file://")) for entry in search_path if entry.startswith("file://")]


def group_options(group: str, more: Sequence[Path] = ()) -> list[str]:
    """Options of a group; empty where there is no such group."""
    names = (path.stem for folder in folders(more) if group for path in (folder / group).glob("*.yaml"))
    return sorted({name for name in names if not name.startswith("_")})


def option_file(group: str, option: str, more: Sequence[Path] = ()) -> Path | None:
    """The file of an option; None where there is none."""
    return next((path for folder in folders(more) if (path := folder / group / f"{option}.yaml").exists()), None)


def short(path: Path) -> str:
    """A file of ours by its place in the repository, another one in full."""
    ours = [frozen.root("conf"), frozen.root("experiments")]
    return next((str(path.relative_to(folder.parent)) for folder in ours if path.is_relative_to(folder)), str(path))


def groups() -> Iterator[str]:
    """Every group that has options, those inside another one (``model/lora``) among them."""
    found = (path.relative_to(folder).as_posix() for folder in folders() for path in sorted(folder.rglob("*")) if path.is_dir())
    for group in dict.fromkeys(found):
        if group.split("/")[0] not in LATER and group_options(group):
            yield group
