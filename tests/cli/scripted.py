"""A service that answers as a test says."""

import json
from collections.abc import Callable
from typing import Any

from tests.http_server import Handler, HttpServer

Answer = tuple[int, dict[str, str], Any]
Script = Callable[..., "Scripted"]

OK: Answer = (200, {}, {"fine": True})
CUT: Answer = (0, {}, None)


def unavailable(status: int = 503, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, {"detail": "Redis is away."}


class Scripted:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, answers: list[Answer]) -> None:
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        script = iter(answers)

        class Told(Handler):
            def answer(told) -> None:
                length = int(told.headers.get("Content-Length") or 0)
                body = json.loads(told.rfile.read(length) or b"null")
                self.seen.append((told.command, told.path, dict(told.headers), body))
                status, headers, text = next(script)
                if not status:
                    told.close_connection = True
                    return
                told.send_response(status)
                for name, value in headers.items():
                    told.send_header(name, value)
                told.end_headers()
                told.wfile.write(text if isinstance(text, bytes) else json.dumps(text).encode())

            do_GET = do_POST = do_DELETE = answer

        self._server = HttpServer(Told)
        self.url = f"http://127.0.0.1:{self._server.port}"

    def close(self) -> None:
        self._server.close()
