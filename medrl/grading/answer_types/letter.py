"""A letter: one of the lettered options of the question."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medrl.data.example import LETTERS, Example
from medrl.grading.answer_types.base import NOTHING, UNDECIDED, AnswerType, Reading, place_of
from medrl.grading.peeling import MOST_CHARACTERS, fold, peel
from medrl.grading.wording import without_denied

LEADING = re.compile(
    r"\A(?:(?:option|choice|answer|letter|选项|选|选择|答案)\s*[:.]?\s*)?"
    r"(?:\(([A-Z])\)|\[([A-Z])\]|([A-Z])(?![A-Za-z0-9_']))(?P<mark>\s*[.):,;=-]*>?)\s*",
    re.IGNORECASE,
)
"""A letter in front: ``B``, ``B. words``, ``(B) words``, ``Option B``."""
_GOES_ON = re.compile(
    r"(?:is|was|as|because|since|for|would|seems?|fits?|it|due|given|but|which|or|and|not|rather|but)\b|\W|项", re.IGNORECASE
)
"""What follows a letter that is chosen, where only a blank parts them. ``B cells`` and ``A longer history`` choose nothing."""
_CUE = (
    r"(?i:^|[:(\n\[\"'=,/&+;.|>→]\s*|\b(?:options?|choices?|answers?|letters?|is|was|be|are|with|choose|chose|select(?:ed)?|pick(?:ed)?|for|go|say|"
    r"therefore|so|thus|hence|then|and|or|vs|versus|as|leaves|leaving|not|nor|than|to|both|either|but|also|it's|maybe|possibly|perhaps|even|definitely|clearly|probably)\s+"
    r"|(?:选项?|选择|答案|是|为|应|即|和|或|与|及)\s*)"
)
CHOSEN = re.compile(
    rf"{_CUE}[(\[]?([A-Z])(?![A-Za-z0-9_'-])(?=(?P<end>[)\].,;:!?]|\s+(?:is|was|as|because|since|would|or|and|it|fits?|but)\b|\s*[/&+\n]|\s*\Z)?)",
    re.MULTILINE,
)
"""A capital that a sentence may choose: after a word or mark that announces a choice. ``vitamin C`` is none."""
_LISTED = re.compile(r"(?:^|[\s;,])\(?([A-Z])[).:]\s", re.IGNORECASE | re.MULTILINE)
"""A letter before another option's words."""
_BESIDE = re.compile(
    r"\A\W*(?:(?:or|and|also|plus|versus|vs|as\s+well\s+as|together\s+with|maybe|possibly|perhaps|even|both|或|和|与|及|还是|以及)\W*)*",
    re.IGNORECASE,
)


MOST_MARKED = 6
"""Characters of a letter and the marks around it: ``**(B)``."""


class Letter(AnswerType):
    """The letter of one of the choices; the option's own words may stand in its place or beside it."""

    def check_gold(self, example: Example) -> str:
        letters = LETTERS[: len(example.choices)]
        gold = example.gold.strip().upper()
        if len(gold) != 1 or gold not in letters:
            raise ValueError(f"the answer should be one of {', '.join(letters) or 'its choices'}, is {example.gold!r:.60}")
        return gold

    def options(self, example: Example) -> Sequence[str]:
        return tuple(LETTERS[: len(example.choices)])

    def place(self, reading: Reading, example: Example) -> int | None:
        return place_of(reading.value or "-", LETTERS[: len(example.choices)])

    def read(self, text: str, example: Example) -> Reading:
        """One option, named by its letter, by its words, or by both where they agree."""
        letters = LETTERS[: len(example.choices)]
        if len(text) == 1 and text in letters:
            return Reading(text, float(text == example.gold))
        if len(text) > MOST_CHARACTERS:
            return NOTHING
        answer = peel(text)
        alone = answer.strip("().:[] ").upper()
        if not (len(alone) == 1 and alone in letters):
            alone = chosen(answer, example) or ""
        if not alone:
            return NOTHING
        if len(alone) > 1:
            return UNDECIDED
        own = fold(example.choices[letters.index(alone)])
        return Reading(alone, float(alone == example.gold), alone=fold(answer).endswith(own) or len(answer) < MOST_MARKED)


def chosen(answer: str, example: Example) -> str | None:
    """The letter of the option that a peeled text chooses; more than one letter where it chooses several or denies what it
    names; None where it names none.
    """
    letters = LETTERS[: len(example.choices)]
    options = [fold(choice) for choice in example.choices]
    words = fold(answer)
    if words in options and options.count(words) == 1:
        return letters[options.index(words)]
    return _leading(answer, letters, options) or _amid(answer, letters, options)


def _leading(answer: str, letters: str, options: Sequence[str]) -> str | None:
    """The letter in front, with those that its words or a second letter put beside it."""
    found = LEADING.match(answer)
    letter = next(filter(None, found.groups()[:3])).upper() if found else ""
    if not found or letter not in letters or not letter:
        return None
    rest = answer[found.end() :]
    words = fold(rest)
    own = options[letters.index(letter)]
    if words == own:
        return letter
    if _begins(words, own):
        words = words[len(own) :]
    elif rest and found[3] and not found["mark"].strip() and not (found[3].isupper() and _GOES_ON.match(rest)):
        return None
    affirmed = LEADING.match(without_denied(answer).strip())
    if not affirmed or letter not in affirmed[0].upper():
        return _amid(answer, letters, options) or "denied"
    rest = without_denied(rest)
    listed = {other.upper() for other in _LISTED.findall(rest)} & set(letters)
    beside = (_letters(rest, letters) | listed) - {letter}
    words = words[_BESIDE.match(words).end() :]  # type: ignore[union-attr]  # it matches nothing at least
    named = [at for at, option in enumerate(options) if _begins(words, option) and letters[at] != letter]
    if named:
        beside.add(letters[max(named, key=lambda at: len(options[at]))])
    return letter + "".join(sorted(beside))


def _amid(answer: str, letters: str, options: Sequence[str]) -> str | None:
    """The option that a sentence chooses."""
    named = _letters(answer, letters) | _worded(answer, letters, options)
    if not named:
        return None
    affirmed = without_denied(answer)
    kept = _letters(affirmed, letters) | _worded(affirmed, letters, options)
    return "".join(sorted(kept)) or "denied"


def _letters(text: str, letters: str) -> set[str]:
    """The letters of options that a text may choose; "A" and "I" are words, too, and count before a mark alone."""
    return {
        found[1] for found in CHOSEN.finditer(text) if found[1] in letters and (found["end"] is not None or found[1] not in "AI")
    }


def _worded(text: str, letters: str, options: Sequence[str]) -> set[str]:
    """The letters of options whose words stand in a text, but for words within the words of a longer option."""
    words = fold(text)
    named: set[str] = set()
    for at in sorted(range(len(options)), key=lambda at: -len(options[at])):
        option = options[at]
        if len(option) < 2:  # an option that is a letter or a digit is named by its own letter alone
            continue
        pattern = (
            ("(?<![a-z0-9])" if option[0].isascii() else "")
            + re.escape(option)
            + ("(?![a-z0-9])" if option[-1].isascii() else "")
        )
        words, count = re.subn(pattern, "\x00", words)
        if count:
            named.add(letters[at])
    return named


def _begins(words: str, option: str) -> bool:
    """Whether a text begins with an option's words, and with no longer word."""
    after = words[len(option) : len(option) + 1]
    return words.startswith(option) and not (option[-1:].isascii() and after.isascii() and after.isalnum())
