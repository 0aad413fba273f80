"""The sections of a configuration that an algorithm reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Lt

from medrl.data.mix import DataMix
from medrl.data.sources import Source
from medrl.evaluation.settings import Eval
from medrl.grading.judges.base import Judge
from medrl.models.base import Model
from medrl.rewards.base import RewardSet
from medrl.rewards.controls import Control
from medrl.training.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class Sections:
    """A configuration without its algorithm. `medrl.config.schema.Run` adds the algorithm, which therefore may know these."""

    seed: Annotated[int, Ge(0), Lt(2**32)]
    """Seeds the weights, the mix, the sampling and the evaluation."""
    model: Model
    """Weights, chat format and adapter."""
    data_mix: DataMix
    """What is trained on, and what is held out."""
    reward_set: RewardSet
    """What completions are paid for."""
    control: Control
    """A placebo arm: what takes the information out of the rewards (`medrl.rewards.controls`)."""
    source: Source
    """Where rows come from."""
    judge: Judge
    """Who grades answers in free text; tasks and rewards that ask one take this."""
    hardware: Hardware
    """How the run is computed."""
    eval: Eval
    """How held-out tasks are asked."""
