"""What is on trial starts gently: it gets little of a processor that others want.

Linux shares the processors between sessions, and circus starts each process in a session of its own. The weight of
a session can be lowered and raised again, without any right. The processes themselves notice nothing.

Nothing happens where Linux shares them in another way (in a cgroup with the cpu controller, as in a container), or
without Linux.
"""

from typing import Final

USUAL: Final = 0
LOW: Final = 5  # a third of the share


def weigh(leader: int, nice: int) -> bool:
    """For the whole session of this process; returns whether that is over.

    Linux takes ten such wishes a second from ordinary users; for one more, ask again.
    """
    try:
        with open(f"/proc/{leader}/autogroup", "wb", buffering=0) as session:
            return session.write(b"%d" % nice) is not None
    except OSError:
        return True  # it has ended, or the system has no such thing
