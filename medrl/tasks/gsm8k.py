"""GSM8K: grade-school arithmetic in words, answered by a number (Cobbe et al. 2021, arXiv 2110.14168)."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from medrl.grading.number_parsing import equal, is_number, number, only_number
from medrl.tasks import lexicon
from medrl.tasks.base import Example, Task, text_of


@dataclass(frozen=True, kw_only=True)
class GSM8K(Task):
    """Word problems whose published solution ends in ``#### <number>``."""

    kind: ClassVar[str] = "gsm8k"
    name: ClassVar[str] = "gsm8k"
    version: ClassVar[int] = 2
    hub_id: ClassVar[str] = "openai/gsm8k"
    instruction: ClassVar[str] = "Solve the problem step by step. The answer is one number."
    answer_format: ClassVar[str] = "the number alone"
    numeric: ClassVar[bool] = True

    def example(self, row: Mapping[str, Any]) -> Example:
        """The calculator marks ``<<...>>`` of the published solutions are left out."""
        question, answer = text_of(row, "question"), text_of(row, "answer")
        solution, mark, gold = answer.rpartition("####")
        value = number(gold)
        if not mark or value is None:
            raise ValueError(f"answer should end in '#### <number>', ends in {answer[-40:]!r}")
        return Example(
            # The data set has no ids: a row is known by its question.
            id=hashlib.sha256(question.encode()).hexdigest()[:12],
            task=self.name,
            question=question,
            gold=f"{value:f}",
            rationale=re.sub(r"<<.*?>>", "", solution).strip(),
        )

    def credit(self, answer: str, example: Example) -> float:
        """Equal as numbers earns 1, LaTeX and fractions included; the number as the only one amid words or units, 0.5."""
        gold = Decimal(example.gold)
        if equal(answer, gold):
            return 1.0
        return 0.5 if only_number(answer) == gold else 0.0

    def valid(self, answer: str, example: Example) -> bool:
        return is_number(answer)

    def vote(self, answer: str, example: Example) -> str:
        value = number(answer)
        return super().vote(answer, example) if value is None else f"{value.normalize():f}"

    def wrong_answer(self, example: Example, others: Sequence[Example]) -> str:
        """One more than the gold."""
        return f"{Decimal(example.gold) + 1:f}"

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        name, thing = rng.choice(lexicon.NAMES), rng.choice(lexicon.THINGS)
        boxes, each = rng.randint(3, 9), rng.randint(12, 49)
        total, change = boxes * each, rng.randint(5, 30)
        gives = rng.random() < 0.5
        left, sign = (total - change, "-") if gives else (total + change, "+")
        verb = "gives away" if gives else "buys"
        question = rng.choice(
            (
                f"{name} has {boxes} boxes with {each} {thing} in each, and {verb} {change} {thing}. "
                f"How many {thing} does {name} have then?",
                f"There are {each} {thing} in a box. {name} has {boxes} such boxes and {verb} {change} {thing}. "
                f"How many {thing} are there now?",
            )
        )
        return {
            "question": question,
            "answer": f"The boxes hold {boxes} * {each} = <<{boxes}*{each}={total}>>{total} {thing}.\n"
            f"Then there are {total} {sign} {change} = <<{total}{sign}{change}={left}>>{left}.\n#### {left}",
        }
