"""The phases of a deploy by name: PREPARE on all hosts side by side, then PUT, host by host, then the clean-up."""

from typing import Final

PREPARE: Final = ("check", "build", "upload", "install", "link", "config", "migrate", "warm")
PUT: Final = ("switch", "reload", "verify")
ALL: Final = (*PREPARE, *PUT, "cleanup")
