"""The files that the page loads: style, script, vendored libraries.

Their addresses carry a version, made from what is in all of them. So a browser may keep them for ever, and a proxy may
serve the folder as it is.
"""

import hashlib
from pathlib import Path
from typing import Final

from flask import Blueprint, request

from service.web.answers import Answer
from service.web.problem import not_found

NAME: Final = "static"
FOLDER: Final = Path(__file__).with_name("static")
KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
FOR_EVER: Final = "public, max-age=31536000, immutable"


class Statics:
    def __init__(self, folder: Path = FOLDER) -> None:
        files = sorted(path for path in folder.rglob("*") if path.suffix in KINDS)
        self._files = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        self._version = hashlib.sha256(repr(self._files).encode()).hexdigest()[:12]

    def address(self, name: str) -> str:
        assert name in self._files, name
        return f"/static/{name}?v={self._version}"

    def blueprint(self) -> Blueprint:
        calls = Blueprint(NAME, __name__)
        calls.add_url_rule("/static/<path:name>", "file", self.file)
        return calls

    def file(self, name: str) -> Answer:
        found = self._files.get(name)
        if found is None:
            raise not_found("there is no such file")
        kept = FOR_EVER if request.args.get("v") == self._version else "no-cache"
        headers = [("Cache-Control", kept), ("X-Content-Type-Options", "nosniff")]
        return Answer(found, headers=headers, content_type=KINDS[Path(name).suffix])
