"""How held-out tasks are asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from medrl.config.bounds import COMPLETIONS, TOKENS
from medrl.config.identity import Identified, plain
from medrl.data.example import LETTERS
from medrl.data.wordings import MOST
from medrl.errors import Problem
from medrl.grading.scorers.base import Scorer
from medrl.models.generation import Sampling


@dataclass(frozen=True, kw_only=True)
class Eval(Identified):
    """How held-out tasks are asked. No part of the run's id: asking again does not change what was learned."""

    kind: ClassVar[str] = "eval"
    asking_fields: ClassVar[tuple[str, ...]] = ("split", "limit", "samples", "max_new_tokens", "temperature", "top_p")
    """The fields that change an answer. The others say how fast it comes, how often, and what is computed from it."""

    split: Literal["test", "validation"]
    """``validation`` asks the rows that `DataMix.validation_rows` keeps of the training split: settings are chosen by these, and
    the test split is asked of the chosen ones."""
    limit: Annotated[int, Gt(0)] | None
    """So many examples of each task, a sample by the hash of their ids, the same for every model and seed; null asks all."""
    samples: Annotated[int, Gt(0), COMPLETIONS]
    """Completions of each example; accuracy is their mean, and pass@k and the majority vote stand beside it."""
    max_new_tokens: Annotated[int, Gt(0), TOKENS]
    """Longest completion; one that it cuts is truncated."""
    temperature: Annotated[float, Ge(0)]
    """0 is greedy."""
    top_p: Annotated[float, Gt(0), Le(1)]
    """Samples are drawn from the likeliest tokens that make up this share; 1 is all."""
    batch_tokens: Annotated[int, Gt(0)] | None
    """Most tokens of a generation batch, padding and completions included; null for what suits the device. No answer depends
    on it."""
    eval_steps: Annotated[int, Gt(0)] | None
    """Ask the validation rows after every so many steps of training, too, for curves and for stopping what is hopeless."""
    wordings: Annotated[int, Ge(1), Le(MOST)]
    """Ask closed tasks with so many wordings of the instruction, its own included (``data/wordings.json``); 1 asks once."""
    option_orders: Annotated[int, Ge(1), Le(len(LETTERS))]
    """Ask closed tasks with so many cyclic orders of the options, the published one included; 1 asks once. An example is asked
    in no more orders than the task's question with the fewest options has."""
    calibration: bool
    """Read the likelihood of each option of closed answers, too: a forward pass an option."""
    paper_scorers: Mapping[str, Scorer]
    """Papers' own, more lenient gradings, reported beside the task's strict one and never instead of it."""

    def problems(self) -> Iterator[Problem]:
        """Mistakes that can be seen in this section alone."""
        if self.samples > 1 and self.temperature == 0:
            yield Problem("samples", f"is {self.samples}, and greedy answers are all the same; set eval.temperature above 0")
        if self.eval_steps is not None and self.split == "test":
            yield Problem("eval_steps", "looks at the test split while training; write eval.split=validation")

    @classmethod
    def asking(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What of ``eval``, as a mapping, changes an answer: two runs that agree in this were asked in the same way."""
        found: dict[str, Any] = plain({key: settings.get(key) for key in cls.asking_fields})
        return found

    def further(self) -> dict[str, Any]:
        """What is asked beside the held-out tasks; empty by default: part of an identity only where it is wanted."""
        ordinary = {"wordings": 1, "option_orders": 1, "calibration": False}
        return {key: value for key, default in ordinary.items() if (value := getattr(self, key)) != default}

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_new_tokens, seed)
