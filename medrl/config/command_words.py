"""Words of the commands that name a run or a model: the name, the command's own options, and overrides of the configuration."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping, Sequence
from errno import EADDRINUSE
from typing import NamedTuple

from medrl.config import suggest
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
    """Part a command line.

    Args:
        argv: Its words.
        known: The command's own options.
        usage: How the command is written.

    Raises:
        UserError: not exactly one run or model is named.
        ConfigError: a word is a mistyped option of the command.
    """
    names = [word for word in argv if "=" not in word]
    if len(names) != 1 or names[0].startswith("-"):
        raise UserError(f"Name one run or model: {usage}")
    options = {word: word.partition("=")[0] for word in argv if "=" in word}
    mistyped = [(key, near) for key in options.values() if key not in known and (near := suggest.near(key, known))]
    if mistyped:
        raise ConfigError([Problem(key, f"no such option; did you mean {' or '.join(near)}?") for key, near in mistyped])
    own = {key: word.partition("=")[2] for word, key in options.items() if key in known}
    return Words(names[0], own, tuple(word for word, key in options.items() if key not in known))


def address(own: Mapping[str, str], port: int) -> socket.socket:
    """A socket at the options ``host`` and ``port`` of a server, taken before anything heavy is done and not yet listening.

    Args:
        own: The command's options.
        port: The default. The default host is this machine alone.

    Raises:
        ConfigError: the port is no number of a port.
        UserError: it is taken, or the host is none of this machine's.
    """
    host, word = own.get("host", "127.0.0.1"), own.get("port", str(port))
    if not (word.isascii() and word.isdigit() and int(word) < 2**16):
        raise ConfigError([Problem("port", f"is {word!r}, should be a number up to 65535; 0 takes one that is free")])
    bound = None
    try:
        family, *_, where = socket.getaddrinfo(host, int(word), type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that a server has just left
        bound.bind(where)
    except OSError as error:
        if bound:
            bound.close()
        said = "is in use; stop what runs there, or write port=N" if error.errno == EADDRINUSE else f"cannot be taken ({error})"
        raise UserError(f"Port {word} of {host} {said}.") from error
    return bound
