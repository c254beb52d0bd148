"""What the process of an attempt tells its runner: frames on a socket, each of a kind and a content.

When such a process crashes, faulthandler writes the stacks to the same socket. They begin like no frame, so what
follows the last whole frame is theirs.
"""

import struct
from collections.abc import Iterator
from typing import Final

TASK: Final = b"t"  # the document, from the runner; it answers CREATE with UIDs, or with what is raised
LINE: Final = b"l"  # of the task's log
NEWS: Final = b"n"  # of its progress
REPORT: Final = b"r"  # of an error, for Sentry
CREATE: Final = b"c"  # tasks that the handler wants; it waits for the answer
ANSWER: Final = b"a"
OUTCOME: Final = b"o"  # the last one
KINDS: Final = (TASK, LINE, NEWS, REPORT, CREATE, ANSWER, OUTCOME)
HEAD: Final = struct.Struct("=cI")
CHUNK: Final = 64 * 1024


def frame(kind: bytes, content: bytes) -> bytes:
    return HEAD.pack(kind, len(content)) + content


class Frames:
    """Cuts them out of what has arrived."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def cut(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        self._rest += chunk
        while len(self._rest) >= HEAD.size:
            kind, length = HEAD.unpack_from(self._rest)
            end = HEAD.size + length
            if kind not in KINDS or len(self._rest) < end:
                return
            content = bytes(self._rest[HEAD.size : end])
            del self._rest[:end]
            yield kind, content

    @property
    def stacks(self) -> str:
        """What a crash has left, if there was one."""
        return "" if bytes(self._rest[:1]) in (b"", *KINDS) else self._rest.decode(errors="replace")
