"""A composed configuration as plain values: where its files lie, what a run of it is called, how it is written and read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.files import write_atomically

Tree = dict[str, Any]
"""A composed configuration as plain dicts, lists and scalars, every interpolation resolved."""

SCIENCE = ("model", "data_mix", "reward_set", "algo", "source", "seed")
"""The sections that decide what is learned. How a batch is split and what is asked afterwards are not among them."""

UNHASHED = ("limits", "run")
"""Keys that are left out of a hash: how fast a judge is asked, and where the run lies whose id stands beside."""


def root(name: str) -> Path:
    """Folder ``conf`` or ``experiments``: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    inside, beside = package / name, package.parent / name
    return inside if inside.is_dir() else beside


def run_id(tree: Tree) -> str:
    """Eight hex digits that name what is learned: a hash over the resolved science sections, nulls dropped."""
    return _digest({section: tree[section] for section in SCIENCE})


def family_id(tree: Tree) -> str:
    """`run_id` without the seed: the same for runs that differ in nothing else."""
    return _digest({section: tree[section] for section in SCIENCE if section != "seed"})


def _digest(science: Tree) -> str:
    text = json.dumps(plain(science), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_dir(tree: Tree) -> Path:
    """Folder of the run: ``<runs>/<name>-<id>``, the same for the same configuration on every machine."""
    return Path(tree["runs"]) / f"{tree['name']}-{run_id(tree)}"


def plain(node: Any) -> Any:
    """A node as it is hashed: without nulls and without what says how or where, and not what."""
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items() if value is not None and key not in UNHASHED}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node  # 1 and 1.0 are one configuration


def freeze(tree: Tree, folder: Path) -> None:
    """Write the resolved configuration; everything after composition reads only this file."""
    import yaml

    header = "# The whole resolved configuration of this run. Written by medrl; read by every process of the run.\n"
    write_atomically(folder / "config.yaml", header + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def load(folder: Path) -> Tree:
    """Read a frozen configuration back.

    Raises:
        UserError: the folder holds none, or it cannot be read.
    """
    import yaml

    path = folder / "config.yaml"
    try:
        # Not OmegaConf: it would read a revision such as 12e4567 as a number and look for ${...} in what is resolved.
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is no run folder: it holds no config.yaml.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); start the run over with force=true.") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} is empty or no mapping; start the run over with force=true.")
    return tree
