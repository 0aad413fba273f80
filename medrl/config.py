"""The typed configuration of one run: where it is found, what it holds, how it is named and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt
from pydantic import StringConstraints

from medrl.algos.base import Algo
from medrl.errors import UserError
from medrl.evaluate import Eval
from medrl.files import write_atomically
from medrl.hardware import Hardware
from medrl.judges.base import Judge
from medrl.mix import DataMix
from medrl.models import Model
from medrl.rewards.base import RewardSet
from medrl.sources import Source
from medrl.tracking.settings import Track

Tree = dict[str, Any]
"""A composed configuration as plain dicts, lists and scalars, every interpolation resolved."""

SCIENCE = ("model", "data_mix", "reward_set", "algo", "source", "seed")
"""The sections that decide what is learned. How a batch is split and what is asked afterwards are not among them."""

Text = Annotated[str, StringConstraints(min_length=1)]

UNHASHED = ("limits", "run")
"""Keys that are left out of a hash: how fast a judge is asked, and where the run lies whose id stands beside."""


def root(name: str) -> Path:
    """Folder ``conf`` or ``experiments``: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside, beside = package / name, package.parent / name
    return inside if inside.is_dir() else beside


@dataclass(frozen=True, kw_only=True)
class Published:
    """One number somebody else has published, to be put beside ours."""

    task: Text
    """As `DataMix.tasks` names it where medrl has it."""
    metric: Text
    """``accuracy`` where it is the task's own; a paper's other measures by their name."""
    value: float
    """A share between 0 and 1 where it is an accuracy."""
    n: Annotated[int, Gt(0)] | None
    """Size of the test set, for the interval; null when the source does not say."""
    split: Text
    """Which rows, as the source names them."""
    protocol: str
    """``generative`` or ``likelihood``: numbers of different protocols are shown side by side, not subtracted."""
    source: Text
    """Paper, section and table, or address."""
    model: Text
    """Whose number it is: the model and, where it matters, how it was trained."""
    ours: bool = False
    """Whether this configuration is meant to give this number; the others are shown for comparison."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A whole configuration. The YAML files of ``conf`` hold every value; the classes hold names, types and meaning."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """First half of the run folder's name."""
    paper: str | None
    study: str | None
    seed: Annotated[int, Ge(0), Lt(2**32)]
    """Seeds the weights, the mix, the sampling and the evaluation."""
    runs: str
    """Folder that holds the run folders."""
    dry_run: bool
    """Print the plan and stop before any weights load."""
    force: bool
    """Start over where a run of the same configuration already stands."""
    published: tuple[Published, ...]
    deviations: tuple[str, ...]
    """What this configuration does otherwise than the paper it follows."""

    model: Model
    data_mix: DataMix
    reward_set: RewardSet
    algo: Algo
    source: Source
    judge: Judge
    """Who grades answers in free text; tasks and rewards that ask one take this."""
    hardware: Hardware
    eval: Eval
    track: Track


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
