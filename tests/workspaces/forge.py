"""A forge's commit status API, as a real HTTP server: keeps what it is told, and answers as a test says."""

import json
from typing import Any, NamedTuple

from tests.http_server import Handler, HttpServer

TOKEN = "a-token-of-the-forge"


class Told(NamedTuple):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Forge:
    def __init__(self) -> None:
        self.told: list[Told] = []
        self.answers: list[int] = []  # the next ones; then 201
        forge = self

        class Answer(Handler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                forge.told.append(Told(self.path, dict(self.headers), body))
                status = forge.answers.pop(0) if forge.answers else 201
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{forge.server.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = HttpServer(Answer)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.port}{path}"
