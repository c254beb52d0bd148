"""An HTTP server of a test's own: what it answers is the handler's."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


class HttpServer:
    def __init__(self, handler: type[Handler]) -> None:
        self._server = HTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
