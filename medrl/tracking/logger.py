"""The settings of experiment tracking (``logger=``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from pydantic import StringConstraints

from medrl.config.identity import Identified
from medrl.errors import Problem

Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")]


@dataclass(frozen=True, kw_only=True)
class Logger(Identified):
    """Whether and where a run is shown: on W&B, or by TensorBoard or trackio on this machine. It is no part of the run id: it
    changes nothing that is learned.
    """

    kind: ClassVar[str] = "logger"

    mode: Literal["auto", "online", "offline", "tensorboard", "trackio", "none"]
    """``online``: to W&B's server; ``offline``: into the run folder, for ``wandb sync``; ``auto``: online where an agent of a W&B
    sweep started the run, else ``none``; ``tensorboard``: event files in the run folder; ``trackio``: its database."""
    project: Name
    """On W&B and in trackio. An agent's run goes to the project of its sweep."""
    entity: str | None
    """User or team on W&B; null: the account's own."""
    tags: tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...]
    """Words that the run carries on W&B."""
    completions: bool
    """Whether W&B also gets a table of what training sampled, prompts and texts, when the run is finished."""
    start_seconds: Annotated[int, Gt(0)]
    """How long the server may take to accept the run, before anything is trained."""
    end_seconds: Annotated[int, Gt(0)]
    """How long a finished run waits for what it has not sent yet. What is left stays in the run folder."""

    @property
    def on(self) -> bool:
        """Whether this process is tracked by W&B."""
        return self.mode in ("online", "offline") or (self.mode == "auto" and of_agent())

    def problems(self) -> Iterator[Problem]:
        """What can be known before anything loads."""
        if self.on and find_spec("wandb") is None:
            yield Problem("mode", "wandb is not installed; `pip install 'medrl[wandb]'`, or write logger=none")
        if self.mode in ("tensorboard", "trackio") and find_spec(self.mode) is None:
            yield Problem("mode", f"{self.mode} is not installed; `pip install 'medrl[{self.mode}]'`, or write logger=none")
        if self.mode in ("offline", "tensorboard", "trackio") and of_agent():
            yield Problem("mode", "an agent of a W&B sweep waits for this run's metrics; write logger=auto")


def of_agent() -> bool:
    """Whether an agent of a W&B sweep started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))
