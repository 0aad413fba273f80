r"""X-R1's grading (the accuracy reward of github.com/dhcode-cpp/X-R1), as far as it is a rule.

Known leniencies, all of them kept:

- The first ``<answer>...</answer>`` counts, wherever it stands: inside the thinking, before it, repeated, contradicted later.
- Without tags the whole text is the answer.
- Capitals and the amount of white space mean nothing.

Differences:

- X-R1 asks a paid model whether two texts mean the same, and falls back on equality where it cannot. Here equality is all,
  so free text, which nothing but that judge could grade, is left out.
- X-R1 has no lettered options. Here the letter or the option's own words count, and nothing that holds both.
- X-R1 reads a number from the whole text, a ``\boxed{}`` first. Here the answer is the same part of the text for all tasks,
  and a number in it is equal as in the strict grade (`medrl.grading.number_parsing.number`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from medrl.grading.number_parsing import number
from medrl.grading.peeling import bare
from medrl.grading.scorers.base import Scorer

if TYPE_CHECKING:
    from medrl.data.example import Example
    from medrl.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class XR1(Scorer):
    """Right where the first answer in tags, or else the whole text, equals the gold. Leaves out free text."""

    kind: ClassVar[str] = "xr1"
    version: ClassVar[int] = 1

    def right(self, text: str, example: Example, task: Task) -> bool | None:
        answer, options = first_answer(text), task.answers.options(example)
        if not options:
            gold = number(example.gold)
            return None if gold is None else number(bare(answer)) == gold
        accepted = [example.gold]
        if example.choices and example.gold in options:
            accepted.append(example.choices[options.index(example.gold)])
        return plain(answer) in [plain(words) for words in accepted]


def first_answer(text: str) -> str:
    """What stands in the first pair of answer tags, else the whole text."""
    # As "<answer>(.*?)</answer>" finds it, but in linear time: where the first opening is never closed, none is.
    inner, closed, _ = text.partition("<answer>")[2].partition("</answer>")
    return inner if closed else text


def plain(text: str) -> str:
    """Lower case, one blank for any white space."""
    return " ".join(text.lower().split())
