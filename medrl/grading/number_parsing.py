"""Text -> exact number, and whether two are equal. The only reading of numbers there is.

A number is what a reader takes for one value at a glance: digits, a fraction, a power of ten, in plain text or in LaTeX.
A calculation is none: a model that may answer ``9 + 9`` need not add.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from itertools import islice
from typing import Any

MOST_CHARACTERS = 80
"""Of a text that is one number, white space around it not counted. The longest gold of GSM8K has 11."""

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
"""Commas between thousands belong to a number; ``1,8`` is two."""
_UNSIGNED = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_MONEY = r"(?:[-+]\$?|\$[-+]?)?"
"""A sign and a dollar sign, in either order."""
PLAIN = re.compile(rf"{_MONEY}{_UNSIGNED}\.?", re.ASCII)
"""One number and at most a full stop after it."""
AMID = re.compile(rf"(?:(?<!\w)[-+]\$?)?(?:{_DIGITS}(?:\.\d+)?|(?<![\w.])\.\d+)", re.ASCII)
"""A number somewhere in a text. The hyphen of ``10-18`` and ``COVID-19`` is no sign, the stop of ``No.5`` no point."""

_SIGNED = rf"[-+]?{_UNSIGNED}"
_FRACTION = rf"\\[dt]?frac(?:\{{{_SIGNED}\}}\{{{_SIGNED}\}}|\d\d)"
_CROSS = r"[*x\u00b7\u00d7]"
"""A product in plain text; the last two are the dot and the cross of typesetting."""
_POWER = r"10\^(?:-?\d\d?|\{-?\d\d?\})"
NOTATION = re.compile(
    rf"[-+]?(?:{_FRACTION}|{_UNSIGNED}/{_UNSIGNED}|(?:{_UNSIGNED}(?:\\times|\\cdot|{_CROSS}))?{_POWER})\.?", re.ASCII
)
"""A fraction or a power of ten. It neither nests nor repeats, so no text of it can keep sympy busy: no tower of powers, no
factorial, no exponent above 99. ``3\\frac{1}{2}`` is left out: a mixed number to some, a product to others."""

_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("\\fbox{", "}"))
_JOINED = re.compile(rf"\s*(/|\\times|\\cdot|{_CROSS}|[\^{{}}])\s*")
"""What blanks may stand beside. Elsewhere they part two numbers: ``1, 234`` is a list."""
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!])(?=\d{3})", re.ASCII)
"""How LaTeX writes the comma between thousands: ``1{,}234``, ``1\\,234``, ``1,\\!234``."""
_UNREAD = str.maketrans("", "", "$,")
_POINT = re.compile(r"(\d*)\.(\d+)", re.ASCII)


def number(text: str) -> Decimal | None:
    """The exact value of a text that is one plain number.

    White space around it, a sign, a dollar sign, commas between thousands and a full stop after it are part of how people
    write numbers. A percent sign is not: ``18%`` may mean 18 or 0.18, and nothing is guessed. Nor are digits of other
    scripts (Arabic, full-width), ``1e3``, ``0x12``, ``1_000``, ``nan`` or ``inf``, all of which Python itself would read.

    Returns:
        The value, or None where the text is anything else or longer than `MOST_CHARACTERS`.
    """
    plain = text.strip()
    if len(plain) > MOST_CHARACTERS:
        return None
    plain = plain.replace("\u2212", "-")  # the minus sign of typesetting
    return Decimal(plain.rstrip(".").translate(_UNREAD)) if PLAIN.fullmatch(plain) else None


def only_number(text: str) -> Decimal | None:
    """The number of a text that holds exactly one amid words or units, as ``18 eggs`` does.

    Returns:
        The value, or None where the text holds none or several; the same number twice is several.
    """
    plain = _THOUSANDS.sub(",", text.replace("\u2212", "-"))
    found = list(islice(AMID.finditer(plain), 2))
    return number(found[0][0]) if len(found) == 1 else None


def equal(answer: str, gold: Decimal) -> bool:
    r"""Whether an answer is a number of exactly the gold's value.

    Plain numbers are compared here. Around them ``$ $``, ``\( \)``, ``\[ \]`` and ``\boxed{}`` are layout. What `NOTATION`
    allows beyond that (``\frac{36}{2}``, ``36/2``, ``1.8\times10^{1}``) is read and compared by math-verify. Its time limits
    are signals, which only a main thread may set, so they are off and `NOTATION` stands in their place: nothing else
    ever reaches it. It would find a number in almost any text (37 in ``18 19``, 801 in ``1\,800``).

    Words and units, calculations, equations (``x = 18``), sets, intervals and several values are no number.

    It never raises. A plain number takes microseconds, one in another notation milliseconds, the very first half a second, in
    which sympy is imported.

    Args:
        answer: Anything that a model wrote.
        gold: A value as `number` gives it.
    """
    value = number(answer)
    if value is None and (latex := _unwrapped(answer)):
        value = number(latex)
        if value is None and NOTATION.fullmatch(latex):
            return _verified(latex, gold)
    return value is not None and value == gold


def is_number(text: str) -> bool:
    """Whether `equal` could find a text equal to something: a number in any of the notations, right or wrong."""
    return number(text) is not None or number(latex := _unwrapped(text)) is not None or NOTATION.fullmatch(latex) is not None


def _unwrapped(text: str) -> str:
    """A text without layout: marks of mathematics, boxes, blanks beside operators. Empty where the text is too long."""
    text = text.strip().replace("\u2212", "-")
    if len(text) > MOST_CHARACTERS:
        return ""
    while inner := _inside(text.removesuffix(".")):
        text = inner.strip()
    return _THOUSANDS.sub(",", _JOINED.sub(r"\1", text)).replace("\\$", "$")


def _inside(text: str) -> str:
    """What stands between the outermost pair of marks; empty where there is none."""
    pairs = (pair for pair in _WRAPPERS if text.startswith(pair[0]) and text.endswith(pair[1]))
    return next((text[len(opening) : -len(closing)] for opening, closing in pairs), "")


def _verified(latex: str, gold: Decimal) -> bool:
    """Whether math-verify finds a text of `NOTATION` equal to the gold."""
    import sympy

    parse, verify, config = _math_verify()
    # It compares decimals as floats and finds 1.8\times10^{-3} unequal to 0.0018; with whole numbers it is exact.
    whole = _POINT.sub(
        lambda found: rf"\frac{{{found[1]}{found[2]}}}{{1{'0' * len(found[2])}}}", latex.replace(",", "").removesuffix(".")
    )
    found = parse(f"${_latex(whole)}$", extraction_config=[config], fallback_mode="no_fallback", parsing_timeout=None)
    return bool(found) and bool(verify(sympy.Rational(*gold.as_integer_ratio()), found[0], timeout_seconds=None))


def _latex(text: str) -> str:
    """A text of `NOTATION` with the operators and exponents of LaTeX."""
    return re.sub(r"\^(-?\d+)", r"^{\1}", re.sub(_CROSS, r"\\times ", text))


@cache
def _math_verify() -> tuple[Any, Any, Any]:
    """``parse``, ``verify`` and what to look for, imported once and told not to warn that their time limits are off."""
    import logging

    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return parse, verify, LatexExtractionConfig(boxed_match_priority=-1)
