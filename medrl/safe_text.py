"""Text that may be shown: without secrets, and with nothing that a terminal, a browser or a spreadsheet would obey."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

SECRET = re.compile(r"(?:^|_)(?:KEYS?|TOKENS?|SECRETS?|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:_|$)", re.IGNORECASE)
"""Names of environment variables, and of options, that hold what nobody else may know."""
SHORTEST = 8
"""A shorter value of such a variable is no key: it says "none", "true" or "0". Nor is a path."""
_USER = re.compile(r"(?<=://)[^\s'\"<>]*@|[^\s'\"<>()=/@:]+:[^\s'\"<>()/@]+@(?=[\w\[])")
_QUERY = re.compile(r"(://[^\s'\"<>?]+)\?[^\s'\"<>)]+")
_SECRET_QUERY = re.compile(
    r"://\S*[?&](?:[\w.-]*(?:key|token|secret|passw|signature|credential)[\w.-]*|sig)=[^\s&]", re.IGNORECASE
)
_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-[\w-]{6,}|(?:gsk|hf|xai|pplx|nvapi)[_-][A-Za-z0-9]{12,}|gh[pousr]_\w{12,}"
    r"|github_pat_\w{12,}|AKIA[A-Z0-9]{12,}|AIza[\w-]{20,})"
)

# What a terminal or a browser obeys or swallows, and what turns the order of the letters that follow, is shown by number.
_CONTROLS = [*(code for code in range(0x20) if chr(code) not in "\n\t"), *range(0x7F, 0xA0)]
_UNSEEN = [0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
_UNSEEN += [*range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)]
_SHOWN = {code: f"\u2039U+{code:04X}\u203a" for code in _CONTROLS + _UNSEEN}


def visible(value: object) -> str:
    """Text whose every character can be seen; half a character becomes a question mark."""
    return str(value).replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8").translate(_SHOWN)


def printable(text: str) -> str:
    """Text on one line; what a terminal would obey becomes a question mark."""
    return "".join(" " if char.isspace() else char if char.isprintable() else "?" for char in text)


def printable_lines(text: str) -> str:
    """The same with the lines and tabs that it has."""
    return "".join(char if char.isprintable() or char in "\n\t" else " " if char.isspace() else "?" for char in text)


def spreadsheet(text: str) -> str:
    """Text on one line that no spreadsheet takes for a formula; a number stays one."""
    line = printable(text)
    formula = line.lstrip().startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) or text[:1] in ("\t", "\r", "\n")
    return f"'{line}" if formula and not re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text) else line


def secrets() -> list[str]:
    """Values of the environment that nobody else may know, the longest first."""
    found = {value.strip() for name, value in os.environ.items() if SECRET.search(name)}
    return sorted((value for value in found if len(value) >= SHORTEST and value[0] != "/"), key=len, reverse=True)


def holds_secret(text: str, known: Sequence[str]) -> bool:
    """Whether a text holds a key or a password, one of the ``known`` `secrets` too, and so may not be written down."""
    address = re.search(r"://[^\s/]*@", text) or _SECRET_QUERY.search(text)
    return bool(address or _KEY.search(text) or any(secret in text for secret in known))


def masked(text: str) -> str:
    """Text without keys, and without users, passwords and queries of addresses."""
    for secret in secrets():
        text = text.replace(secret, "***")
    if "@" in text:
        text = _USER.sub("***@", text)
    if "://" in text:
        text = _QUERY.sub(r"\1?***", text)
    return _KEY.sub("***", text)


class _Guarded:
    """A stream that shows no secret, and outside of a terminal nothing that a terminal would obey."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        shown = masked(text)
        # On a terminal, bars and colours are ours; what is foreign was made printable before it was printed.
        self._stream.write(shown if self._stream.isatty() else shown.translate(_PIPED))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_PIPED = {code: shown for code, shown in _SHOWN.items() if chr(code) != "\r"}


@contextmanager
def guarded() -> Iterator[None]:
    """Guard what is printed inside the block, by whichever library; after an error the traceback, too, which is still to come."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Guarded(stream) for stream in before)
    yield
    sys.stdout, sys.stderr = before
