"""What the configuration of one run holds: names, types and meaning. The values are in YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from pydantic import StringConstraints

from medrl.algos.base import Algo
from medrl.evaluate import Eval
from medrl.hardware import Hardware
from medrl.judges.base import Judge
from medrl.mix import DataMix
from medrl.models import Model
from medrl.rewards.base import RewardSet
from medrl.sources import Source
from medrl.tracking.settings import Track

Text = Annotated[str, StringConstraints(min_length=1)]


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
    tuned: tuple[str, ...]
    """What ``model=tiny`` puts in the place of the algorithm's and the paper's values."""

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
