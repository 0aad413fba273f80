"""Text -> exact number. The only reading of numbers there is.

A number is what a reader takes for one value at a glance: digits, a fraction, a power of ten, in plain text, in LaTeX or in
words, alone or as the result of a calculation (``9 x 4 = 36``). A calculation without its result is none: a model that may
answer ``9 + 9`` need not add.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import islice

from medrl.grading.peeling import clean

MOST_CHARACTERS = 80
"""Of a text that is one number, white space around it not counted. The longest gold of GSM8K has 11."""

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
"""Commas or blanks between thousands belong to a number; ``1,8`` is two."""
_UNSIGNED = rf"(?:{_INTEGER}(?:\.\d+)?|\.\d+)"
_SIGN = r"[-+]? ?"
_CURRENCY = r"(?:[$€£¥]|USD|US\$|RMB)"
_TIMES = r"(?:[*x\u00b7\u00d7\u2715\u22c5]|\\times|\\cdot)"
_POWER = r"10 ?(?:\^|\*\*) ?\{?(?P<power>[-+]?\d{1,2})\}?"
_NUMBER = re.compile(
    rf"(?P<sign>[-+])? ?{_CURRENCY}? ?(?P<sign2>[-+])? ?(?:"
    rf"(?P<scaled>{_UNSIGNED}) ?{_TIMES} ?{_POWER}"
    rf"|{_POWER.replace('power', 'bare_power')}"
    rf"|(?P<value>{_UNSIGNED})e(?P<exponent>[-+]?\d{{1,3}})"
    rf"|\\[dt]?frac ?\{{ ?(?P<top>{_SIGN}{_UNSIGNED}) ?\}} ?\{{ ?(?P<bottom>{_UNSIGNED}) ?\}}"
    rf"|(?:(?P<whole>\d+) )?(?P<numerator>\d+|{_UNSIGNED}) ?/ ?(?P<denominator>{_UNSIGNED})"
    rf"|(?P<plain>{_UNSIGNED})"
    rf") ?{_CURRENCY}?\.?",
    re.ASCII | re.IGNORECASE,
)
_FRACTION_OF_DIGITS = re.compile(r"\\[dt]?frac ?(\d)(\d)\Z", re.ASCII)
AMID = re.compile(
    rf"(?P<before>[^\W_]-|[^\s\d]/|\^|[^\W_]\.?)?(?<![\d.])"
    rf"(?P<number>(?:(?<![\w)])[-+] ?)?[$€£¥]?(?:{_INTEGER}(?:\.\d+)?|\.\d+)(?:e[-+]?\d{{1,3}}\b)?)",
    re.ASCII | re.IGNORECASE,
)
"""A number somewhere in a text, and what ties it to a name (``B12``, ``iodine-131``) or a unit (``/1.73``, ``m^2``) before it."""
_GROUPS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!]|,\\!)(?=\d{3})", re.ASCII)
"""How LaTeX writes the comma between thousands: ``1{,}234``, ``1\\,234``, ``1,\\!234``."""
_MINUS = re.compile(r"\A(?:minus|negative)\s+|\A负", re.IGNORECASE)
_CALCULATION = re.compile(r"[\d\s.,+\-*/x\u00d7\u00b7\u00f7^()$%{}\\a-z]*\Z", re.ASCII | re.IGNORECASE)


def number(text: str) -> Fraction | None:
    """The exact value of a text that is one number and nothing else.

    A sign, a currency, commas or blanks between thousands, a full stop after it and the marks of LaTeX are part of how people
    write numbers. A percent sign is not: ``18%`` may mean 18 or 0.18 (`percentage` reads it).

    Returns:
        The value, or None where the text is anything else or longer than `MOST_CHARACTERS`.
    """
    if len(text) > 10 * MOST_CHARACTERS:
        return None
    text = clean(text)
    if text.isdigit() and text.isascii() and len(text) <= MOST_CHARACTERS:
        return Fraction(int(text))
    text = _MINUS.sub("-", text)
    text = " ".join(_GROUPS.sub(",", text).replace("\\$", "$").replace("{,}", ",").split())
    if not text or len(text) > MOST_CHARACTERS:
        return None
    found = _NUMBER.fullmatch(text)
    if found:
        return _value(found)
    if short := _FRACTION_OF_DIGITS.match(text):
        return _ratio(short[1], short[2])
    if "=" in text:  # a calculation, and its result
        left, _, right = text.rpartition("=")
        return number(right) if _CALCULATION.match(left) else None
    return _in_words(text.rstrip("."))


def percentage(text: str) -> Fraction | None:
    """The number before a percent sign that ends a text; None where there is none."""
    text = clean(text).rstrip(". ")
    return number(text[:-1].removesuffix("\\")) if text.endswith("%") else None


def only_number(text: str) -> Fraction | None:
    """The number of a text that holds exactly one amid words or units, as ``18 eggs`` does.

    Digits that belong to a name or a unit (``B12``, ``iodine-131``, ``mL/min/1.73 m^2``) are none of their own.

    Returns:
        The value, or None where the text holds none or several; the same number twice is several.
    """
    text = _GROUPS.sub(",", clean(text))
    free = [found for found in islice(AMID.finditer(text), 50) if not found["before"] and not _tied(text, found.end())]
    return number(free[0]["number"]) if len(free) == 1 else None


def exact(value: Fraction) -> str:
    """A value as text: digits where they end, else a fraction."""
    places = next((k for k in range(MOST_CHARACTERS) if 10**k % value.denominator == 0), None)
    if places is None:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).zfill(places + 1)
    return "-" * (value < 0) + digits[: len(digits) - places] + ("." + digits[-places:] if places else "")


def _tied(text: str, end: int) -> bool:
    """Whether letters follow a number without a blank and make it a name (``2nd``, ``5HT``); a unit (``5mg``) does not."""
    return re.match(r"(?:st|nd|rd|th)\b|-?[A-Z]{2,}\d|\d", text[end : end + 12]) is not None


def _value(found: re.Match[str]) -> Fraction | None:
    group = found.groupdict()
    if group["sign"] and group["sign2"]:
        return None
    sign = -1 if "-" in (group["sign"], group["sign2"]) else 1
    if group["scaled"]:
        value = _decimal(group["scaled"]) * _ten(group["power"])
    elif group["bare_power"]:
        value = _ten(group["bare_power"])
    elif group["value"]:
        value = _decimal(group["value"]) * _ten(group["exponent"])
    elif group["plain"]:
        value = _decimal(group["plain"])
    else:
        ratio = _ratio(group["top"] or group["numerator"], group["bottom"] or group["denominator"])
        if ratio is None or (group["whole"] and ratio >= 1):  # "1 36/2" is two numbers
            return None
        value = ratio + int(group["whole"] or 0)
    return sign * value


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", ""))


def _ten(exponent: str) -> Fraction:
    return Fraction(10) ** int(exponent)


def _ratio(top: str, bottom: str) -> Fraction | None:
    below = _decimal(bottom)
    return _decimal(top) / below if below else None


_UNITS = dict(
    zip(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ],
        range(20),
        strict=True,
    )
)
_TENS = dict(zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True))
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_HAN = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"\u3007": 0, "两": 2}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}


def _in_words(text: str) -> Fraction | None:
    """A whole number in English or Chinese words."""
    found = _chinese(text) if text[:1] in _HAN or text[:1] in _HAN_SCALES else _english(text)
    return None if found is None else Fraction(found)


def _english(text: str) -> int | None:
    words = [word for word in re.split(r"[\s-]+", text.lower()) if word != "and"]
    total = part = 0
    for place, word in enumerate(words):
        if word in _UNITS or word in _TENS:
            value = _UNITS.get(word) or _TENS.get(word) or 0
            before = words[place - 1] if place else "hundred"
            if before in _UNITS or (before in _TENS and not 0 < value < 10):  # "two three" is a list
                return None
            part += value
        elif word in _SCALES and place:
            scale = _SCALES[word]
            if scale == 100:
                part *= scale
            else:
                total, part = total + part * scale, 0
        else:
            return None
    return total + part if words else None


def _chinese(text: str) -> int | None:
    total = section = digit = 0
    for place, char in enumerate(text):
        if char in _HAN:
            if digit:  # 一二 is a list
                return None
            digit = _HAN[char]
        elif char in _HAN_SCALES:
            scale = _HAN_SCALES[char]
            if scale >= 10**4:
                total, section = (total + section + digit) * scale, 0
            else:
                section += (digit or (1 if place == 0 else 0)) * scale
            digit = 0
        else:
            return None
    return total + section + digit
