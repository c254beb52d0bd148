"""The password that sudo wants on hosts: asked from the operator once, kept in memory, sent on standard input only."""

import getpass
import sys
import threading

from rollout.errors import DeployError


class Password:
    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._known: str | None = None

    def get(self) -> str:
        """Hosts are reached side by side; the first one that wants it asks for all."""
        with self._asking:
            if self._known is None:
                self._known = self._ask()
            return self._known

    @staticmethod
    def _ask() -> str:
        if sys.stdin.isatty():
            return getpass.getpass("password for sudo on the hosts: ")
        if password := sys.stdin.readline().rstrip("\n"):
            return password
        raise DeployError(
            "sudo on the hosts wants a password; no terminal is there to ask for it, nor is it on standard input"
        )
