"""An address of this machine, and a web application behind it until Ctrl-C: of the server and of the page."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from errno import EADDRINUSE
from types import FrameType
from typing import Any

from medrl.errors import ConfigError, Problem, UserError


def address(own: Mapping[str, str], port: int) -> socket.socket:
    """A socket at the options ``host`` (this machine alone by default) and ``port`` of a server, taken before anything heavy is
    done and not yet listening. Raises `ConfigError` for no port, and `UserError` where it is taken, or the host is another
    machine's.
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


def url(bound: socket.socket) -> str:
    """How a client of this machine writes the address."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(application: Any, bound: socket.socket, close: Callable[[], None]) -> None:
    """Serve an ASGI application where it is bound until a signal ends it, at which ``close`` ends what is being written. Raises
    `KeyboardInterrupt` after Ctrl-C, when everything is closed.
    """
    import uvicorn

    interrupted = threading.Event()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig == signal.SIGINT:
                interrupted.set()
            close()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # a connection that is cut is no failure from here on
            super().handle_exit(sig, frame)

    config = uvicorn.Config(application, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE)
    Server(config).run(sockets=[bound])
    if interrupted.is_set():  # uvicorn gives the signal back to whoever handled it before: to nobody, in a shell's background
        raise KeyboardInterrupt


GRACE = 5
"""Seconds that open connections have after Ctrl-C: a browser keeps one as long as its page is open."""
