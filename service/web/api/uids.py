"""A task's UID as it stands in a path, and the problems with it."""

import re
from typing import Final

from service.web.problem import Problem, not_found

UID: Final = re.compile(r"[0-9a-f]{64}")


def checked(uid: str) -> str:
    if not UID.fullmatch(uid):
        raise not_found("that is no task's UID, which has 64 characters from 0-9 and a-f")
    return uid


def missing(uid: str) -> Problem:
    return not_found(f"there is no task {uid}; a finished one expires after a time")
