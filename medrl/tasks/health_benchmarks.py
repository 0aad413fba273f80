"""Health Benchmarks: multiple-choice questions by specialty (yesilhealth/Health_Benchmarks on the hub)."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medrl.tasks.base import Example, text_of
from medrl.tasks.choice import LETTERS, ChoiceTask, fact_question

OPTION = re.compile(r"^[^\S\n]*\(?([A-J])[).:][^\S\n]*(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class HealthBenchmarks(ChoiceTask):
    """The options stand inside the question; the answer is ``B``, ``B)``, ``(B) text`` or ``B. text``."""

    name: ClassVar[str] = "health_benchmarks"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str] = "yesilhealth/Health_Benchmarks"

    def example(self, row: Mapping[str, Any]) -> Example:
        whole, answer = text_of(row, "Questions"), text_of(row, "Answers")
        found = list(OPTION.finditer(whole))
        letters = [option[1] for option in found]
        if len(found) < 2 or letters != list(LETTERS[: len(found)]):
            raise ValueError(f"Questions should hold options A, B, ... a line each, holds {letters}")
        gold = re.match(r"\(?([A-J])(?:[).:]|$)", answer)  # "A low dose" is a text and no letter
        if not gold or gold[1] not in letters:
            raise ValueError(f"Answers should begin with one of {', '.join(letters)}, is {answer!r:.60}")
        return Example(
            id=hashlib.sha256(whole.encode()).hexdigest()[:12],
            task=self.name,
            question=whole[: found[0].start()].strip(),
            choices=tuple(option[2].strip() for option in found),
            gold=gold[1],
        )

    def twin(self, rng: random.Random) -> dict[str, Any]:
        question, options, right, _, _ = fact_question(rng)
        lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
        gold = LETTERS[right]
        shapes = (gold, f"{gold})", f"({gold}) {options[right]}", f"{gold}. {options[right]}")
        return {"Questions": f"{question}\n{lines}", "Answers": rng.choice(shapes)}
