"""Moments as documents and log lines write them: RFC 3339, UTC, with microseconds."""

from datetime import UTC, datetime

_second_text: tuple[int, str] = (-1, "")


def stamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds. The text of a second is kept: most calls share it."""
    global _second_text
    whole = int(seconds)
    second, text = _second_text
    if second != whole:
        text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _second_text = (whole, text)
    return f"{text}{int((seconds - whole) * 1_000_000):06d}Z"


def stamp_exactly(microseconds: int) -> str:
    """Like `stamp`, of microseconds since the epoch: a float of seconds would lose the last digit."""
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{stamp(second)[:20]}{fraction:06d}Z"


_second_number: tuple[str, int] = ("", 0)


def microseconds(moment: str) -> int:
    """The inverse of `stamp_exactly`. The number of a second is kept, too."""
    global _second_number
    text, number = _second_number
    if not moment.startswith(text) or not text:
        text = moment[:19]
        number = int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000
        _second_number = (text, number)
    return number + int(moment[20:26])
