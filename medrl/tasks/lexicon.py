"""Words, textbook facts and sentences of the synthetic twins, read from lexicon.json."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Any, Literal

from medrl.files import packaged

_DATA: dict[str, Any] = packaged(__file__, "lexicon.json")
DRUGS: list[str] = _DATA["drugs"]
PRACTICES: list[str] = _DATA["practices"]
OUTCOMES: list[str] = _DATA["outcomes"]
PATIENTS: list[str] = _DATA["patients"]
NAMES: list[str] = _DATA["names"]
THINGS: list[str] = _DATA["things"]
FACTS: list[list[str]] = _DATA["facts"]
"""A condition, its treatment, the specialty."""
SPECIALTIES: list[str] = sorted({specialty for _, _, specialty in FACTS})
DISEASES: list[tuple[str, str, list[list[str]]]] = _DATA["diseases"]
"""A disease and its symptoms, the most telling first, each in English and Chinese."""
TEXTS: dict[str, Any] = _DATA["texts"]
"""Sentences by task, with the gaps that `fill` fills."""
GAP = re.compile(r"\{(?:(\d+)-(\d+)|(\w+(?:\|\w+)+)|(\w+))\}")


def fill(text: str, rng: random.Random, **words: object) -> str:
    """Fill the gaps of a text from left to right: ``{2-30}`` draws a number, ``{a|b}`` one of the words, ``{name}`` is a keyword.

    A name with a capital gets its word with a capital.
    """
    gaps, rest = _gaps(text)
    filled = []
    for before, numbers, either, name in gaps:
        if numbers:
            word: object = rng.randint(*numbers)
        elif either:
            word = rng.choice(either)
        else:
            word = words[name] if name in words else capital(str(words[name.lower()]))
        filled += [before, str(word)]
    return "".join([*filled, rest])


@lru_cache(maxsize=2**10)
def _gaps(text: str) -> tuple[list[tuple[str, tuple[int, int] | None, list[str], str]], str]:
    """What stands before each gap, and its numbers, words or name; and what stands after the last. A few texts make all twins."""
    found, end = [], 0
    for gap in GAP.finditer(text):
        low, high, either, name = gap.groups()
        found.append((text[end : gap.start()], (int(low), int(high)) if low else None, either.split("|") if either else [], name))
        end = gap.end()
    return found, text[end:]


def capital(text: str) -> str:
    """A text that begins with a capital."""
    return text[:1].upper() + text[1:]


def case(rng: random.Random, language: Literal["en", "zh"]) -> tuple[str, list[str], list[str]]:
    """A disease, three of its symptoms with the most telling among them, and three other diseases."""
    place = 0 if language == "en" else 1
    diseases = rng.sample(DISEASES, 4)
    disease, *others = [(english, chinese)[place] for english, chinese, _ in diseases]
    first, *rest = (symptom[place] for symptom in diseases[0][2])
    symptoms = [first, *rng.sample(rest, 2)]
    rng.shuffle(symptoms)
    return disease, symptoms, others


def complaints(rng: random.Random, symptoms: list[str]) -> list[str]:
    """Chinese symptoms with the days that they have lasted. The numbers keep twins from sharing 13 characters with others, which
    would make them count as contaminated.
    """
    return [fill("{symptom}{2-30}天", rng, symptom=symptom) for symptom in symptoms]
