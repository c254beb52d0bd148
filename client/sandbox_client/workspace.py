"""A workspace's record with typed fields. `record` is what the service sent, with all that a newer one may add."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

Action = Literal["start", "stop", "restart", "update", "test", "rebuild", "access", "resume"]


class Record:
    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    @property
    def slug(self) -> str:
        """Its name."""
        return str(self.record["slug"])

    @property
    def email(self) -> str:
        return str(self.record["email"])

    @property
    def state(self) -> str:
        return str(self.record["state"])

    @property
    def step(self) -> str | None:
        """That is, or was last, at work."""
        found: str | None = self.record["step"]
        return found

    @property
    def address(self) -> str | None:
        found: str | None = self.record["address"]
        return found

    @property
    def branch(self) -> str:
        return str(self.record["branch"])

    @property
    def unpushed(self) -> list[str]:
        """Work that a deletion would lose, as last seen."""
        return list(self.record["unpushed"])

    @property
    def error(self) -> str | None:
        found: str | None = self.record["error"]
        return found

    @property
    def created_at(self) -> datetime:
        return datetime.fromisoformat(self.record["created_at"])

    @property
    def expires_at(self) -> datetime | None:
        """When it is deleted if nobody uses it before, and it has no work that is nowhere else; None: never."""
        text = self.record.get("expires_at")
        return datetime.fromisoformat(text) if text else None

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} {self.slug} {self.state}>"
