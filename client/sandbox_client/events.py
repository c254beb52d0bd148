"""Server-sent events, as GET /tasks/<uid>/events sends them. Lines end at a line feed, and nowhere else."""

import json
from typing import Any, Final, NamedTuple

from sandbox_client.errors import UnexpectedAnswer

FIRST_PAUSE_SECONDS: Final = 1.0
LEAST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 60.0
SILENCE_SECONDS: Final = 40.0  # the service writes something each 15 s
END: Final = "end"


class Event(NamedTuple):
    """`kind` is task (`data`: the document), log (`lines`, `dropped`), or end (`status`)."""

    kind: str
    data: Any


class EventParser:
    def __init__(self) -> None:
        self.last_seen = ""
        self.pause_seconds = FIRST_PAUSE_SECONDS  # before one comes back, if the stream ends too early
        self._rest = b""
        self._fields: dict[str, str] = {}

    def begin(self) -> None:
        """Another stream: what the last one has sent by half comes again."""
        self._rest, self._fields = b"", {}

    def feed(self, chunk: bytes) -> list[Event]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [event for line in lines if (event := self._take(line.decode("utf-8", "replace"))) is not None]

    def _take(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if fields.get("retry", "").isdecimal():
            self.pause_seconds = min(max(int(fields["retry"]) / 1000, LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        if "data" not in fields:
            return None
        self.last_seen = fields.get("id", self.last_seen)
        return Event(fields.get("event", ""), _json(fields["data"]))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = "an event that is no JSON, as no sandbox sends it: see SANDBOX_URL"
        raise UnexpectedAnswer(message, status=200, request_id=None) from error
