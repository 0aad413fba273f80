"""What the configuration of one run holds: names, types and meaning. The values are in YAML."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt
from pydantic import StringConstraints

from medrl.algos.base import Algo
from medrl.config.identity import Values, digest
from medrl.config.sections import Sections
from medrl.tracking.logger import Logger

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
    protocol: Literal["generative", "likelihood", "classification", "human"]
    """How the answers were taken: numbers of different protocols are shown side by side, not subtracted."""
    source: Text
    """Paper, section and table, or address."""
    model: Text
    """Whose number it is: the model and, where it matters, how it was trained."""
    ours: bool = False
    """Whether this configuration is meant to give this number; the others are shown for comparison."""


@dataclass(frozen=True, kw_only=True)
class Run(Sections):
    """A whole configuration. The YAML files of ``conf`` hold every value; the classes hold names, types and meaning."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
    """First half of the run folder's name; ALGO-MODEL-DATA_MIX where none is given."""
    paper: str | None
    """Option of ``experiments/paper``: a published setting."""
    study: str | None
    """Option of ``experiments/study``: a question of ours."""
    runs: str
    """Folder that holds the run folders."""
    dry_run: bool
    """Print the plan and stop before any weights load."""
    force: bool
    """Start over where a run of the same configuration already stands."""
    published: tuple[Published, ...]
    """Numbers of others that stand beside those of this run."""
    deviations: tuple[str, ...]
    """What this configuration does otherwise than the paper it follows."""
    tuned: tuple[str, ...]
    """What ``model=tiny`` puts in the place of the algorithm's and the paper's values."""
    chosen: tuple[str, ...]
    """What ``format: auto`` was found to be, by task, and by how many right answers (`medrl.planning.format_choice`)."""

    extensions: dict[str, str]
    """Code of the user's own that it is made with, folders and packages, and the hash of each (`medrl.config.extensions`)."""

    algo: Algo
    """How the policy learns."""
    logger: Logger
    """Whether W&B shows the run."""


def run_id(run: Run) -> str:
    """Eight hex digits that name what is learned."""
    return digest({**_learned(run), "seed": run.seed})


def family_id(run: Run) -> str:
    """`run_id` without the seed, and without that of the run whose model it starts from: the same for runs that differ in nothing
    else, so that chains of several seeds stand together in each stage.
    """
    return digest({**_learned(run), "model": run.model.of_any_seed()})


def arms_id(run: Run) -> str:
    """`family_id` without the control: the same for a run and its placebo arms, of whatever seed."""
    return family_id(replace(run, control="none"))


def _learned(run: Run) -> Values:
    """What decides the weights that a run ends with; a section that its algorithm never reads is left out."""
    hardware = run.hardware.identity()
    # Where we sample, transformers wrote all completions before vLLM did: what it writes keeps its id.
    ours = run.algo.samples_itself and run.hardware.rollout == "vllm"
    if not (run.algo.uses_rollout_engine or ours):
        hardware.pop("rollout")
    learned = {"model": run.model, "algo": run.algo, **({"hardware": hardware} if run.model.runs_here else {})}
    if run.algo.trains or run.model.learns_vocabulary:
        learned["rows"] = run.data_mix.learned(run.source, graded=run.algo.uses_rewards)
    if run.algo.uses_rewards:
        learned["reward_set"] = run.reward_set
    if run.control != "none":
        learned["control"] = run.control
    return learned


def run_dir(run: Run) -> Path:
    """Folder of the run: ``<runs>/<name>-<id>``, the same for the same configuration on every machine."""
    return Path(run.runs) / f"{run.name}-{run_id(run)}"


def rows_from(run: Run) -> tuple[str, bool]:
    """Where the rows come from that are trained on or evaluated, for the first line of every table, and whether some are twins.

    Files of the user's own are named, and the source where it is read.
    """
    known = [(run.data_mix.tasks[name], split) for name, split in run.data_mix.splits(run.algo.trains)]
    read = [(task, split) for task, split in known if split == "test" or run.algo.trains] or known
    files = (task.location(split).file for task, split in read)
    names = dict.fromkeys(file.name if file else run.source.describe() for file in files)
    return ", ".join(names) or run.source.describe(), any(run.source.invents(task, split) for task, split in read)
