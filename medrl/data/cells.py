"""What the cells of a table say, in any spelling: texts, options, golds, limits, conversations.

People write the same row in many ways. Each function reads those that can be meant in one way only, and raises ValueError for the
others; whoever calls it knows the file and the line.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from medrl.data.example import LETTERS, Example
from medrl.data.readers import check_characters
from medrl.grading.answer_types.date import Date
from medrl.grading.answer_types.letter import LEADING
from medrl.grading.answer_types.number import Number
from medrl.grading.number_parsing import exact, number, percentage
from medrl.grading.peeling import fold, peel

NOTHING = ("", "nan", "NaN", "<NA>")
"""How tables write a missing value."""
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""Name of a speaker, as ShareGPT or as chat templates have it -> role in a chat."""
SOLUTION = re.compile(r"####\s*(.+?)\s*\Z")
"""How GSM8K marks the gold at the end of a solution."""
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_MARKED = re.compile(r"^[^\S\n]*\(?([A-Z])[).:、\uff0e][^\S\n]*(?=\S)", re.MULTILINE)
_SPACED = re.compile(r"^[^\S\n]*([A-Z])[^\S\n]+(?=\S)", re.MULTILINE)
_ONE_LETTER = re.compile(r"\(?[A-Ja-j][).:]?")
_OWN_LETTER = re.compile(r"\A\s*\(?([A-Z])[).:、\uff0e]\s*(?=\S)")


# --- One value -------------------------------------------------------------------------------------------------------


def missing(value: Any) -> bool:
    """Whether a cell holds nothing: NaN is what a table with gaps has there."""
    return (
        value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and value.strip() in NOTHING)
    )


def text(value: Any, name: str) -> str:
    """A cell of words; a number stands for its digits, a whole one without a point.

    Raises:
        ValueError: it holds none.
    """
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool) and not missing(value):
        return str(value)
    if not isinstance(value, str) or missing(value):
        raise ValueError(f"{name!r} should be text, is {value!r:.80}")
    return value.strip()


def optional(value: Any, name: str) -> str:
    """The same where a cell may hold nothing."""
    return "" if missing(value) else text(value, name)


def index(value: Any, name: str, count: int) -> int:
    """The place of an option, from 0; a boolean is none.

    Raises:
        ValueError: there is no such place.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise ValueError(f"{name!r} should be a whole number from 0 to {count - 1}, is {value!r:.40}")
    return value


def texts(value: Any, name: str) -> tuple[str, ...]:
    """A list of texts, or the text of one as JSON, Python, NumPy or pandas write it; a text that is no list is one.

    Raises:
        ValueError: an item holds no text.
    """
    if isinstance(value, str):
        found = _written_list(value, name)
        value = [value] if found is None else found
    if not isinstance(value, list | tuple):
        value = [value]
    return tuple(text(item, name) for item in value)


def wordings(value: Any, name: str) -> tuple[str, ...]:
    """Other wordings of a gold, if any: a list in any spelling, or a text in which ``;``, ``|`` or a new line parts them.

    Raises:
        ValueError: an item holds no text.
    """
    if missing(value):
        return ()
    found = texts(value, name)
    return (
        tuple(part.strip() for item in found for part in re.split(r"[;|\n]", item) if part.strip()) if len(found) == 1 else found
    )


def _written_list(value: str, name: str) -> list[Any] | dict[str, Any] | None:
    """The list or dict that a text spells; None where it spells none."""
    written = value.strip()
    if not (written[:1] + written[-1:] in ("[]", "{}") or written.startswith("array([")):
        return None
    try:
        found = json.loads(written)
    except ValueError:
        inner = written.removeprefix("array(")
        quoted = _QUOTED.findall(inner)
        between = _QUOTED.sub("", inner)
        if inner[:1] == "[" and re.fullmatch(r"\[[\s,]*\](?:,\s*dtype=\w+\))?", between):  # NumPy writes no commas
            items = [ast.literal_eval(item) for item in quoted]
            check_characters(items, written)
            return items
        if "..." in between:
            raise ValueError(f"{name!r} was cut where it was written, is {value!r:.80}") from None
        try:
            found = ast.literal_eval(written)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    check_characters(found, written)
    return list(found) if isinstance(found, tuple) else found if isinstance(found, list | dict) else None


# --- Options ---------------------------------------------------------------------------------------------------------


def options(value: Any, name: str) -> tuple[str, ...]:
    """The options of a question, without letters of their own.

    A list; a dict by letters, or of ``label`` and ``text``; a list of such dicts; the text of any of these; lines that begin with
    letters; a dict of columns, one an option. Gaps at the end are no options.

    Raises:
        ValueError: it is none of these, there is a gap between two options, or there are fewer than two or more than 26.
    """
    if isinstance(value, str):
        lines = lettered(value) or lettered(value, _SPACED)
        value = lines[1] if lines and not lines[0] else _written_list(value, name)
    if isinstance(value, Mapping):
        value = _by_letter(value, name)
    if isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
        value = [_labelled(item, place, name) for place, item in enumerate(value)]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name!r} should be a list of texts, is {value!r:.80}")
    found = list(value)
    while found and missing(found[-1]):
        found.pop()
    if any(map(missing, found)):
        gap = LETTERS[[missing(item) for item in found].index(True)]
        raise ValueError(f"{name!r} has no text for option {gap}, and one after it")
    if not 2 <= len(found) <= len(LETTERS):
        raise ValueError(f"{name!r} should list 2 to {len(LETTERS)} options, lists {len(found)}")
    worded = [text(item, name) for item in found]
    own = [_OWN_LETTER.match(item) for item in worded]
    if all(match and match[1] == LETTERS[place] for place, match in enumerate(own)):
        worded = [item[match.end() :] for item, match in zip(worded, own, strict=True) if match]
    return tuple(worded)


def lettered(whole: str, begins: re.Pattern[str] = _MARKED) -> tuple[str, list[str]] | None:
    """What stands before options that are written as lines ``A. ..``, ``B) ..``, and the options, of one line or more.

    A line without a letter belongs to the option before it. None where there are no such lines, or
    their letters are not A, B, ...
    """
    found = list(begins.finditer(whole))
    if len(found) < 2 or [match[1] for match in found] != list(LETTERS[: len(found)]):
        return None
    ends = [*(match.start() for match in found[1:]), len(whole)]
    return whole[: found[0].start()].strip(), [
        " ".join(whole[match.end() : end].split("\n")).strip() for match, end in zip(found, ends, strict=True)
    ]


def _by_letter(value: Mapping[str, Any], name: str) -> Sequence[Any]:
    keys = [str(key).strip() for key in value]
    if sorted(keys) in (["label", "text"], ["key", "value"]):
        labels, worded = (list(value[key]) if isinstance(value[key], list | tuple) else [] for key in sorted(keys))
        if len(labels) == len(worded):
            return [
                _labelled({"label": label, "text": item}, place, name)
                for place, (label, item) in enumerate(zip(labels, worded, strict=True))
            ]
    cells = sorted(zip(keys, value.values(), strict=True), key=lambda pair: (len(pair[0]), pair[0]))
    for first in ("A", "a", "0", "1"):
        if [key for key, _ in cells] == [chr(ord(first) + place) for place in range(len(cells))]:
            return [item for _, item in cells]
    raise ValueError(f"{name!r} should hold options A, B, ..., holds {', '.join(keys):.80}")


def _labelled(item: Mapping[str, Any], place: int, name: str) -> Any:
    """The text of an option that says its letter or number beside it."""
    label = next((item[key] for key in ("label", "key", "letter", "id") if key in item), None)
    worded = next((item[key] for key in ("text", "value", "option", "content") if key in item), None)
    if label is not None and str(label).strip().upper() not in (LETTERS[place], str(place), str(place + 1)):
        raise ValueError(f"{name!r} should hold options A, B, ... in order, has {label!r:.40} in place {place + 1}")
    return worded


# --- Golds -----------------------------------------------------------------------------------------------------------


def first_place(golds: Sequence[Any], choices: Sequence[Sequence[str]]) -> int | None:
    """What the number of the first option is, 0 or 1, where all golds are numbers of options; None where they are not.

    Raises:
        ValueError: the numbers might count from either, or be the words of options.
    """
    pairs = [(_digits(gold), beside) for gold, beside in zip(golds, choices, strict=True) if beside]
    if not pairs or any(place is None for place, _ in pairs):
        return None
    places = [(int(place or 0), len(beside)) for place, beside in pairs]
    if all(fold(place or "") in map(fold, beside) for place, beside in pairs):
        if any(place > count for place, count in places):
            return None
        raise ValueError(
            "is null, and the answers might be numbers of options or the options themselves; write 0 or 1, what the first one's "
            "number is, or answer_type=words"
        )
    # The first option tells where its number is 0, the last one where its number is how many there are.
    lowest, highest = any(place == 0 for place, _ in places), any(place == count for place, count in places)
    if lowest == highest:
        raise ValueError("is null, and the numbers of options in the answers may count from 0 or from 1; write which")
    return int(highest)


def _digits(value: Any) -> str | None:
    """A whole number as its digits; None for anything else, a boolean among it."""
    try:
        digits = text(value, "")
    except ValueError:
        return None
    return digits if digits.isascii() and digits.isdigit() else None


def choice(value: Any, name: str, choices: Sequence[str], first: int | None) -> int:
    """The place of the option that a gold names, from 0: by its letter (``B``, ``(b)``, ``B. words``), its words, or its number.

    Args:
        value: The cell.
        name: Its column.
        choices: The options.
        first: What the number of the first option is; None where a number can only be the words of an option.

    Raises:
        ValueError: it names none or several.
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not choices:
        raise ValueError(f"{name!r} names an option, and the row has none; name the column of the options (columns.choices)")
    gold, letters = text(value, name), LETTERS[: len(choices)]
    if first is not None and (digits := _digits(value)) is not None:
        if not first <= int(digits) < first + len(choices):
            raise ValueError(f"{name!r} should be {first} to {first + len(choices) - 1}, is {digits}")
        return int(digits) - first
    answer = peel(gold)
    alone = answer.strip("().:[] ").upper()
    if len(alone) == 1 and alone in letters:
        return letters.index(alone)
    named = [place for place, option in enumerate(choices) if fold(option) in (fold(gold), fold(answer))]
    if len(named) == 1:
        return named[0]
    if found := LEADING.match(answer):
        letter = next(filter(None, found.groups()[:3])).upper()
        if letter in letters and fold(answer[found.end() :]) in ("", fold(choices[letters.index(letter)])):
            return letters.index(letter)
    if named:
        raise ValueError(f"{name!r} is {gold!r:.60}, as {' and '.join(letters[place] for place in named)} are; write the letter")
    raise ValueError(f"{name!r} should be one of {', '.join(letters)} or the words of an option, is {gold!r:.60}")


def several(value: Any, name: str, choices: Sequence[str], first: int | None) -> str:
    """The letters of all options that a gold names, in order: ``ACD``, ``A, C``, a list of letters, words or numbers.

    Raises:
        ValueError: one of them is none, or there is none.
    """
    letters = LETTERS[: len(choices)]
    if isinstance(value, str) and fold(value) not in map(fold, choices):
        joined = re.sub(r"[\s,;/&|、，()\[\]'\"]+|\band\b|和", "", value.strip())
        if joined and set(joined.upper()) <= set(letters) and not (joined.islower() and len(joined) > 1):
            return "".join(sorted(set(joined.upper())))
        value = _written_list(value, name) or value
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        raise ValueError(f"{name!r} names no option, is {value!r}")
    places = {choice(item, name, choices, first) for item in items}
    return "".join(letters[place] for place in sorted(places))


def decision(value: Any, name: str) -> str:
    """A word of a decision; JSON's true and false are words, too."""
    return str(value).lower() if isinstance(value, bool) else peel(text(value, name)).lower()


def solution(value: str) -> tuple[str, str] | None:
    """``(solution, gold)`` of a text that ends in ``#### gold``, without GSM8K's calculator marks; None for any other."""
    found = SOLUTION.search(value)
    return (re.sub(r"<<.*?>>", "", value[: found.start()]).strip(), found[1]) if found else None


def margin(gold: str, value: Any, name: str) -> tuple[str, str]:
    """Lowest and highest value about a number: ``0.5``, or ``5%`` of it.

    Raises:
        ValueError: no number, or one below 0.
    """
    written = text(value, name).lstrip("±").strip()
    share, absolute = percentage(written), number(written)
    middle = Fraction(gold)
    width = abs(middle) * share / 100 if share is not None else absolute
    if width is None or width < 0:
        raise ValueError(f"{name!r} should be a number or a percentage, is {value!r:.40}")
    return exact(middle - width), exact(middle + width)


# --- The type of the answers -----------------------------------------------------------------------------------------

MOST_WORDS = 60
"""Characters of an answer that is taken for a name or a short phrase."""
DECISIONS = (("yes", "no"), ("yes", "no", "maybe"), ("true", "false"))
"""Sets of words that golds decide between, the smallest that holds all of them."""


def decisions(golds: Sequence[Any]) -> tuple[str, ...] | None:
    """The words that golds decide between; None where they are others."""
    try:
        found = {decision(gold, "") for gold in golds}
    except ValueError:
        return None
    return next((words for words in DECISIONS if found and found <= set(words)), None)


def answer_type(golds: Sequence[Any], choices: Sequence[Sequence[str]], first: int | None) -> str:
    """Which type of answers golds are of: ``letter``, ``letters``, ``decision``, ``number``, ``date`` or ``words``.

    Args:
        golds: Their cells.
        choices: The options beside each; empty where there are none.
        first: What the number of the first option is; None where it is not known.

    Raises:
        ValueError: it might be several types, or none.
    """
    if any(choices):
        if not all(choices):
            raise ValueError("some rows have options and others have none; write answer_type=words or another")
        if all(_reads(choice, gold, "", beside, first) for gold, beside in zip(golds, choices, strict=True)):
            return "letter"
        for gold, beside in zip(golds, choices, strict=True):
            try:
                several(gold, "answer", beside, first)
            except ValueError as error:
                raise ValueError(f"there are options, and {error}; mend it, or write answer_type=words or another") from None
        return "letters"
    if all(isinstance(gold, str) and _ONE_LETTER.fullmatch(gold.strip()) for gold in golds):
        raise ValueError(
            "answers are letters and no row has options; name their column (columns.choices), or write answer_type=words "
            "if the letters are words"
        )
    if decisions(golds):
        return "decision"
    if all(_reads(numeral, gold, "") for gold in golds):
        return "number"
    worded = [wording for gold in golds for wording in texts(gold, "answer")]
    if all(_reads(Date().check_gold, Example("", "", "", wording)) for wording in worded):
        return "date"
    longest = max(map(len, worded))
    if longest > MOST_WORDS:
        raise ValueError(
            f"answers have up to {longest:,} characters; write answer_type=words (the gold's own words are right), "
            "free_text (a judge grades) or none (imitated, not graded)"
        )
    return "words"


def numeral(value: Any, name: str) -> str:
    """A number in any notation, at the end of a solution of GSM8K, too.

    Raises:
        ValueError: it is none.
    """
    written = text(value, name)
    found = solution(written)
    return Number().check_gold(Example("", "", "", found[1] if found else written))


def _reads(read: Callable[..., object], *values: Any) -> bool:
    try:
        read(*values)
    except ValueError:
        return False
    return True


# --- Conversations ---------------------------------------------------------------------------------------------------


def conversation(value: Any, name: str) -> tuple[str, list[tuple[str, str]]]:
    """Turns as ``(system message, turns as (role, text))``; the message is empty where there is none.

    Turns are ``{from, value}`` (ShareGPT) or ``{role, content}``.

    Raises:
        ValueError: it is none, or speakers do not take turns, the human first.
    """
    if isinstance(value, str):
        value = _written_list(value, name)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{name} should be a list of turns, is {value!r:.80}")
    rest, system = list(value), ""
    who, what = ("role", "content") if isinstance(rest[0], Mapping) and "role" in rest[0] else ("from", "value")
    if not all(isinstance(turn, Mapping) for turn in rest):
        raise ValueError(f"{name} should hold turns of {who!r} and {what!r}")
    if rest[0].get(who) == "system":
        system = _turn(rest.pop(0), what, 1, name)
    speakers = ("human", "gpt") if who == "from" else ("user", "assistant")
    first = 2 if system else 1
    turns = []
    for place, turn in enumerate(rest, start=first):
        expected = speakers[(place - first) % 2]
        if ROLES.get(str(turn.get(who))) != ROLES[expected]:
            raise ValueError(f"turn {place} of {name} should be from {expected}, is from {turn.get(who)!r:.40}")
        turns.append((ROLES[expected], _turn(turn, what, place, name)))
    if not turns:
        raise ValueError(f"{name} holds a system message and no turn")
    return system, turns


def _turn(turn: Mapping[str, Any], column: str, place: int, name: str) -> str:
    value = turn.get(column)
    if not isinstance(value, str) or missing(value):
        raise ValueError(f"turn {place} of {name}: {column!r} should be text, is {value!r:.80}")
    return value.strip()
