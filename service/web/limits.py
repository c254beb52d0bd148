"""What a request may be at most. The arbiter imports this too, so it imports nothing."""

from typing import Final

BODY_LIMIT: Final = 256 * 1024
