"""HuatuoGPT-o1's grading (Chen et al. 2024, arXiv 2412.18925; the scorer of their evaluation).

It always finds an answer, by the first match or by the last. They report the better of the two totals; here both are shown, since
a choice made over a whole table afterwards is no grade of an example. Known leniencies, all of them kept:

- One letter counts, the first or the last: ``The answer is B ... no, the answer is C`` answers B or C.
- After ``answer is`` any word with a capital will do: ``the answer is Aspirin`` answers A.
- Any capital of an option that stands alone will do: ``vitamin C`` answers C where there is an option C.
- An option's words count within other words: ``no`` stands in ``know``. Of several options it is the one that is first named
  last, in the first answer as in the last.
- What names nothing gets the option that looks most alike; an empty text, where all look equally unlike, gets the last.

Differences:

- They letter yes, no and maybe. Where the options are words here, letters say nothing, and only the words are looked for.
- Likeness is measured on the first `MOST_CHARACTERS` of a text: their way takes quadratic time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, ClassVar, Literal

from medrl.grading.scorers.base import Scorer

if TYPE_CHECKING:
    from medrl.data.example import Example
    from medrl.tasks.base import Task

HEADING = "## Final Response\n\n"
"""What their models write between thinking and answer."""
STATED = re.compile(r"answer is\s*([A-N])")
MOST_CHARACTERS = 10_000
"""Of a text that is compared with options: some 2,000 tokens of English."""


@dataclass(frozen=True, kw_only=True)
class Huatuo(Scorer):
    """Right where the answer found is the gold. Applies wherever the options can be listed."""

    kind: ClassVar[str] = "huatuo"
    version: ClassVar[int] = 1

    match: Literal["first", "last"]
    """Which of several answers counts."""

    def right(self, text: str, example: Example, task: Task) -> bool | None:
        names = task.answers.options(example)
        if not names:
            return None
        text = text.rpartition(HEADING)[2].rpartition("</think>")[2]
        answer = _letter(text, names, self.match) if example.choices else None
        if answer is None:
            answer = names[_option(text.lower(), [option.lower() for option in example.choices or names], self.match)]
        return answer.lower() == example.gold.lower()


def _letter(text: str, letters: Sequence[str], match: Literal["first", "last"]) -> str | None:
    """The first or last letter after ``answer is``, else the first or last of an option that stands alone."""
    # Chinese has no blanks between words, so a letter between its characters stands alone. "A " is an article.
    word = r"[^\W\u4e00-\u9fff]"
    found = STATED.findall(text) or re.findall(rf"(?<!{word})(?!A )([{''.join(letters)}])(?!{word})", text)
    return (found[0] if match == "first" else found[-1]) if found else None


def _option(text: str, options: Sequence[str], match: Literal["first", "last"]) -> int:
    """The place of the option that a text names, else of the one most like it; text and options are in lower case."""
    places = [text.find(option) if match == "first" else text.rfind(option) for option in options]
    if max(places) >= 0:
        # Their list is sorted downwards here, too: of several options, the one whose first (or last) place is the last.
        return places.index(max(places))
    matcher = SequenceMatcher(None, "", text[:MOST_CHARACTERS])
    likeness = []
    for option in options:
        matcher.set_seq1(option)
        likeness.append(matcher.ratio())
    return max(range(len(options)), key=lambda place: (likeness[place], place))  # the later of equals
