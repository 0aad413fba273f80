"""What stands around an answer and says nothing: marks, width, brackets, quotes, LaTeX, HTML, a label in front.

All types of answers peel the same layout before they compare, so that ``**C**`` and ``Answer: C`` are read alike everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from medrl.grading.unicode import nfkc

MOST_CHARACTERS = 2000
"""Of an answer. What is longer is an essay, which no rule reads; every pattern below sees at most so much."""

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SIGNS = {
    0x3000: " ", 0x00A0: " ", 0x202F: " ", 0x2009: " ", 0x3002: ".", 0x3001: ",",
    0x2010: "-", 0x2011: "-", 0x2012: "-", 0x2013: "-", 0x2014: "-", 0x2212: "-",
    0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2044: "/", 0x2215: "/",
}  # fmt: skip
PLAIN_SIGNS = _WIDE | _SIGNS
"""Full-width forms and the signs of typesetting -> what a keyboard writes."""
VULGAR = {char: unicodedata.normalize("NFKD", char).replace("\u2044", "/") for char in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
"""Fractions in one character. They are parted from a number before them: ``2¼`` is no ``21/4``."""
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]")
_HIGH = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
_HIGH_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")

_TAG = re.compile(
    r"</?(?:b|i|u|p|em|strong|code|mark|span|div|center|font|br|answer|final_answer)\b[^<>]{0,80}/?>", re.IGNORECASE
)
_HIGH_TAG = re.compile(r"<sup>(.{1,20}?)</sup>", re.IGNORECASE)
_COMMAND = re.compile(
    r"\\(?:text[a-z]*|math[a-z]*|boxed|fbox|framebox|operatorname|mbox|ensuremath|emph)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_SPACING = re.compile(r"\\(?:[;:> ]|quad|qquad)|(?<!\\)~(?=\w)")
_MATH = re.compile(r"(?<![\w\\$])\$\$?(?=\S)([^$]+?)\$\$?(?![\w$])|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*_~`])(\*{1,3}|_{1,3}|~{1,2}|`{1,3})(?=[^\s*_~`])(.+?)(?<=[^\s*_~`])\1(?![\w*_~`])", re.DOTALL)
_FENCE = re.compile(r"\A```[\w+-]*\s*\n(.*?)\n?\s*```\Z", re.DOTALL)
_HEAD = re.compile(r"\A(?:#{1,6}\s+|>\s+|[•·●▪]\s*|[*-]\s+(?!\d)|={1,3}>?\s*|[-=]>\s*|→\s*|:\s*)")
_TAIL = " \t\r\n.,;:!?"
_BRACKETS = {"(": ")", "[": "]", "{": "}", "【": "】", "「": "」", "『": "』", "《": "》", "〈": "〉", "«": "»", "<": ">"}
_QUOTES = "\"'`"

_NOUN = (
    r"(?:answers?|choices?|options?|decision|verdict|diagnos[ei]s|results?|conclusion|letters?|solution|response|output|prediction|"
    r"selection|judge?ment|total|ranking|value|number|date|score)"
)
_BEST = (
    r"(?:final|correct|best|right|single|most|more|likely|probable|appropriate|accurate|suitable|predicted|chosen|selected"
    r"|overall)"
)
LABEL = re.compile(
    r"\A(?:(?:so|thus|therefore|hence|then|in short|in summary|in conclusion|to conclude|overall|finally|accordingly|ok(?:ay)?)\b"
    r",?:?\s+)?"
    rf"(?:(?:the|my|our|its|this|a)\s+)?(?:{_BEST}\s+)*{_NOUN}(?:\s+(?:choice|option|letter|answer|here|now|to\s+(?:the|this)\s+question))*"
    r"(?:\s*(?::|=|->|=>|\s-\s)+\s*(?:is\s+)?|\s+(?:is|are|was|would\s+be|should\s+be|will\s+be|must\s+be)\b\s*:?\s*(?:that\s+)?)"
    r"|\A(?:(?:所以|因此|故|综上|综上所述|那么)[,:]?\s*)?(?:我的|本题|该题|此题)?(?:最终|最后|正确|最佳|参考|标准|推荐)*(?:的)?"
    r"(?:答案|选项|诊断|结果|结论|判断|选择|回答)(?:应该|应当|应)?(?:是|为|选|:)+\s*",
    re.IGNORECASE,
)
"""Words before an answer that only announce it: ``The best answer is``, ``Diagnosis:``, ``答案：``."""


def clean(text: str) -> str:
    """A text without invisible characters, in plain signs, its powers written with ``^``; at most `MOST_CHARACTERS` are read.

    A superscript after a digit is a power (``10⁶`` -> ``10^6``); after a letter it is a manner of writing (``m²`` -> ``m2``).
    """
    if text.isascii():
        return text.strip()
    text = _INVISIBLE.sub("", text)
    text = "".join(f" {VULGAR[char]}" if char in VULGAR else char for char in text)
    text = _HIGH.sub(lambda found: _power(text, found), text)
    return text.translate(PLAIN_SIGNS).strip()


def _power(text: str, found: re.Match[str]) -> str:
    digits = found[0].translate(_HIGH_DIGITS)
    before = text[found.start() - 1 : found.start()]
    return digits if before.isalpha() else f"^{digits}"


def bare(text: str) -> str:
    """A text without marks around it or within it: emphasis, code, HTML, LaTeX, quotes, brackets, marks at its end.

    Marks that change a value stay: a sign, a point before a digit, a percent sign, a power, a prime, a single star.
    """
    text = clean(text)
    if text.isalnum():
        return text
    if "<" in text:
        text = _TAG.sub(" ", _HIGH_TAG.sub(r"^\1", text))
    if "\\" in text:
        text = _without_latex(text)
    if "$" in text:
        text = _MATH.sub(_inner, text)
    before = None
    while text != before:
        before = text
        text = _unwrapped(_HEAD.sub("", _trimmed(text)))
        if fence := _FENCE.match(text):
            text = fence[1]
        if any(mark in text for mark in "*_~`"):
            text = _EMPHASIS.sub(r"\2", text)
    return text


def peel(text: str) -> str:
    """`bare`, and without labels in front, however many. What would leave nothing stays."""
    text = bare(text)
    for _ in range(4):
        found = LABEL.match(text)
        rest = bare(text[found.end() :]) if found else ""
        if not rest:
            return text
        text = rest
    return text


@lru_cache(maxsize=4096)  # options are folded for every answer to their question
def fold(text: str) -> str:
    """A text as words are compared: no layout, no case, no width; one blank between words, none beside Chinese characters."""
    text = bare(text)
    if not text.isascii():
        text = _EAST.sub("", nfkc(text))
    return _spaced(text.casefold())


_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_EAST = re.compile(rf"(?<=[{_CJK}])\s+|\s+(?=[{_CJK}])")
_LETTER_POWER = re.compile(r"(?<=[^\W\d_])\^(?=\d)")
_TIGHT = re.compile(r"(?<=\d)\s*-\s*(?=\d)|\s*/\s*")


def _spaced(text: str) -> str:
    text = _LETTER_POWER.sub("", text)
    text = _TIGHT.sub(lambda found: found[0].strip(), text)
    return " ".join(text.split())


def _without_latex(text: str) -> str:
    for _ in range(4):  # \boxed{\text{C}} has one within another
        text, changed = _COMMAND.subn(r"\1", text)
        if not changed:
            break
    text = re.sub(r"\\([%$#&_])", r"\1", _SPACING.sub(" ", text))
    return _MATH.sub(_inner, text)


def _inner(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None)


def _trimmed(text: str) -> str:
    """Without blanks, emoji and the marks that end a sentence; a mark that is all there is stays."""
    end = len(text)
    while end and (text[end - 1] in _TAIL or _pictured(text[end - 1])):
        end -= 1
    start = 0
    while start < end and (text[start].isspace() or _pictured(text[start])):
        start += 1
    return text[start:end] or text.strip()


def _pictured(char: str) -> bool:
    """Whether a character is a picture: an emoji, a check mark, a skin tone."""
    return not char.isascii() and unicodedata.category(char) in ("So", "Sk", "Cn")


def _unwrapped(text: str) -> str:
    """What stands between brackets or quotes that close each other around the whole text."""
    if len(text) < 3:
        return text
    first, last, inner = text[0], text[-1], text[1:-1]
    if first in _QUOTES and last == first and first not in inner:
        return inner
    closing = _BRACKETS.get(first)
    if closing != last or closing is None:
        return text
    depth = 0
    for char in inner:  # (A) or (B) begins and ends with brackets that are no pair
        depth += (char == first) - (char == closing)
        if depth < 0:
            return text
    return inner if depth == 0 and inner.strip() else text
