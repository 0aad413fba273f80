"""Words, textbook facts and sentences of the synthetic twins, read from lexicon.json."""

from __future__ import annotations

import random
import re
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

    def word(gap: re.Match[str]) -> str:
        low, high, either, name = gap.groups()
        if low:
            return str(rng.randint(int(low), int(high)))
        if either:
            return str(rng.choice(either.split("|")))
        return str(words[name]) if name in words else capital(str(words[name.lower()]))

    return GAP.sub(word, text)


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
