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
    """Sets the weight of this process's whole session. Returns False if that has to be tried again.

    Linux takes ten changes a second from an ordinary user, and refuses one more.
    """
    try:
        with open(f"/proc/{leader}/autogroup", "wb", buffering=0) as session:
            return session.write(b"%d" % nice) is not None
    except OSError:
        return True  # it has ended, or the system has no such thing
