"""Moments as text, as documents and log lines hold them: RFC 3339, UTC, with microseconds.

Neighbouring calls mostly share a second, so each function keeps what it worked out for the last one.
"""

from datetime import UTC, datetime

_second_text: tuple[int, str] = (-1, "")


def stamp(seconds: float) -> str:
    """The moment so many seconds after the epoch."""
    global _second_text
    whole = int(seconds)
    second, text = _second_text
    if second != whole:
        text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _second_text = (whole, text)
    return f"{text}{int((seconds - whole) * 1_000_000):06d}Z"


def stamp_exactly(microseconds: int) -> str:
    """The moment so many microseconds after the epoch. (A float of seconds is not always exact to the last digit.)"""
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{stamp(second)[:20]}{fraction:06d}Z"


_second_number: tuple[str, int] = ("", 0)


def microseconds(moment: str) -> int:
    """The inverse of `stamp_exactly`."""
    global _second_number
    text, number = _second_number
    if not moment.startswith(text) or not text:
        text = moment[:19]
        number = int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000
        _second_number = (text, number)
    return number + int(moment[20:26])
