"""Health Benchmarks: multiple-choice questions by specialty (yesilhealth/Health_Benchmarks on the hub)."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from medrl.data import cells
from medrl.data.example import LETTERS, Example
from medrl.data.sources import Location, Split
from medrl.errors import Problem
from medrl.tasks import lexicon
from medrl.tasks.base import row_id, text_of
from medrl.tasks.choice import ChoiceTask, chart_question

if TYPE_CHECKING:
    from medrl.data.readers import Row

HELD_OUT_TENTHS = 1
"""The data set has one split a specialty: so many tenths of its questions, chosen by their hash, are never trained on."""


@dataclass(frozen=True, kw_only=True)
class HealthBenchmarks(ChoiceTask):
    """The options stand inside the question; the answer is ``B``, ``B)``, ``(B) text`` or ``B. text``.

    ``all/train`` and ``all/test`` read every specialty, ``Cardiology/train`` one.
    """

    kind: ClassVar[str] = "health_benchmarks"
    version: ClassVar[int] = 3
    hub_id: ClassVar[str] = "yesilhealth/Health_Benchmarks"
    twin_configs: ClassVar[tuple[str, ...]] = tuple(lexicon.SPECIALTIES)

    def location(self, split: Split) -> Location:
        """Each specialty is a configuration with one split of the same name; train and test part it by hash."""
        config, _, name = getattr(self, split).partition("/")
        return Location(("*" if config == "all" else config,), "*", partial(_belongs, test=name == "test"))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        for split in ("train", "test"):
            if getattr(self, split).partition("/")[2] not in ("train", "test"):
                yield Problem(split, f"is {getattr(self, split)!r}, should be all/train, all/test or SPECIALTY/train")

    def parse(self, row: Row) -> Example:
        """The specialty is the configuration's name, which stands in no column."""
        return replace(super().parse(row), group=row.config)

    def example(self, row: Mapping[str, Any]) -> Example:
        whole, answer = text_of(row, "Questions"), text_of(row, "Answers")
        inside = cells.lettered(whole)
        if not inside:
            raise ValueError("Questions should hold options A, B, ..., each on a line of its own")
        question, choices = inside
        letters = LETTERS[: len(choices)]
        gold = re.match(r"\(?([A-Z])(?:[).:]|$)", answer)  # "A low dose" is a text and no letter
        if not gold or gold[1] not in letters:
            raise ValueError(f"Answers should begin with one of {', '.join(letters)}, is {answer!r:.60}")
        return Example(
            id=row_id(whole),
            task=self.name,
            question=question,
            choices=tuple(choices),
            gold=gold[1],
        )

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        question, options, right, _ = chart_question(rng)
        lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
        gold = LETTERS[right]
        shapes = (gold, f"{gold})", f"({gold}) {options[right]}", f"{gold}. {options[right]}")
        return {"Questions": f"{question}\n{lines}", "Answers": rng.choice(shapes)}


def _belongs(row: Mapping[str, Any], *, test: bool) -> bool:
    """Whether a question is of the split."""
    digest = hashlib.sha256(str(row.get("Questions")).strip().encode()).digest()
    return (digest[0] % 10 < HELD_OUT_TENTHS) == test
