"""A person's own link: it opens one workspace on the page, and nothing else. Who follows it needs no token.

Its secret is made of the workspace's name and generation by a key that lies beside the records, for this user alone:
nothing else has to be kept. When a workspace is deleted and made anew, its old link ends; when the key is deleted, all
links do.
"""

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.web.api import disk
from service.workspaces.record import Workspace

KEY_BYTES: Final = 32


def place(slug: str) -> str:
    """A workspace's page."""
    return f"/ui/workspaces/{slug}"


class OwnLinks:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "links.key"

    def of(self, workspace: Workspace) -> str:
        """Where it leads, on this service."""
        return f"{place(workspace.slug)}/open?key={self.secret(workspace)}"

    def opens(self, workspace: Workspace, secret: str) -> bool:
        return hmac.compare_digest(secret.encode("utf-8", "replace"), self.secret(workspace).encode())

    def secret(self, workspace: Workspace) -> str:
        of_what = f"{workspace.slug}/{workspace.generation}".encode()
        return base64.urlsafe_b64encode(hmac.new(self._key(), of_what, hashlib.sha256).digest()).decode().rstrip("=")

    def _key(self) -> bytes:
        with disk.usable(disk.WORKSPACES):
            try:
                return self._path.read_bytes()
            except FileNotFoundError:
                self._make_key()
                return self._path.read_bytes()

    def _make_key(self) -> None:
        """Whole or not at all; of two processes that make one, the first wins."""
        beside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(beside, self._path)
        finally:
            beside.unlink(missing_ok=True)
