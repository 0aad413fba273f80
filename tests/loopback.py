"""An HTTP server of the standard library on a free port of the loopback address: what the loopback servers share."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    here: Any
    """The server's own object, which holds what is asked."""
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a head and a body in two small packets would wait 40 ms for each other

    def serve(self, body: bytes) -> None:
        """Answer a request of any ``command``."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self.serve(self.body())

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  # as the standard library names them

    def body(self) -> bytes:
        """What came with the request; read in any case, or the next one would begin with it."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr: the server's object holds what was asked."""


class Server(ThreadingHTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 128  # a connection over the 5 of the standard library waits for a second

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ends closes its connections; any other error is a mistake of the server, and shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Loopback:
    """Started and stopped by ``with``; what it answers is said by the class's ``handler``."""

    handler: type[Handler]

    def __enter__(self) -> Self:
        self._server = Server(("127.0.0.1", 0), type("BoundHandler", (self.handler,), {"here": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_port}"
