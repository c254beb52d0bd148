"""A filter as a person types it, or as a form sends it: what is empty is left out, and a moment is in UTC."""

import re
from typing import Final

from werkzeug.datastructures import MultiDict

from service.web.api.listing import SEVERAL

MOMENTS: Final = ("created_after", "created_before")
DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
MINUTE: Final = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(:\d\d)?")


def typed(sent: MultiDict[str, str]) -> MultiDict[str, str]:
    """Each name once; several types, queues or statuses stand with commas between."""
    asked: MultiDict[str, str] = MultiDict()
    for name, values in sent.lists():
        given = [value.strip() for value in values if value.strip()]
        if given and name in SEVERAL:
            asked[name] = ",".join(given)
        elif given:
            asked.setlist(name, [_in_utc(value) for value in given] if name in MOMENTS else given)
    return asked


def _in_utc(value: str) -> str:
    if DAY.fullmatch(value):
        return f"{value}T00:00:00Z"
    found = MINUTE.fullmatch(value)
    return f"{found[1]}T{found[2]}{found[3] or ':00'}Z" if found else value
