"""Words of the commands that name a run or a model: the name, the command's own options, and overrides of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from medrl.config import extensions, suggest
from medrl.errors import ConfigError, Problem, UserError


class Words(NamedTuple):
    """A command line, parted."""

    name: str
    """The one word that is no option."""
    own: dict[str, str]
    """The command's options."""
    overrides: tuple[str, ...]
    """All other options, as ``python -m medrl`` takes them."""


def parted(argv: Sequence[str], known: Collection[str], usage: str) -> Words:
    """Part a command line, whose ``usage`` and own options are ``known``; the extensions that it names are known from here on.
    Raises `UserError` where not exactly one run or model is named, `ConfigError` for a mistyped option.
    """
    argv = extensions.name(argv)
    names = [word for word in argv if "=" not in word]
    if len(names) != 1 or names[0].startswith("-"):
        raise UserError(f"Name one run or model: {usage}")
    options = {word: word.partition("=")[0] for word in argv if "=" in word}
    mistyped = [(key, near) for key in options.values() if key not in known and (near := suggest.near(key, known))]
    if mistyped:
        raise ConfigError([Problem(key, f"no such option; did you mean {' or '.join(near)}?") for key, near in mistyped])
    own = {key: word.partition("=")[2] for word, key in options.items() if key in known}
    return Words(names[0], own, tuple(word for word, key in options.items() if key not in known))
