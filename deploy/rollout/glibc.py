"""Whether wheels fit the glibc of a host.

A wheel's name says which glibc it needs at least: manylinux_2_34 needs 2.34. The name of one that was made of a source,
as linux_x86_64, does not say it: it needs that of the machine that made it. pip chooses what fits this machine, and
hosts may be older.
"""

import os
import re
from collections.abc import Iterable
from typing import Final

from packaging.utils import parse_wheel_filename

from rollout.errors import DeployError

Version = tuple[int, int]

OWN: Final = (os.confstr("CS_GNU_LIBC_VERSION") or "") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
ANY: Final = (0, 0)
FORMER_NAMES: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


def refuse_older(host: str, found: str, wheels: Iterable[str], made_on: str) -> None:
    """`found` is the host's, `made_on` that of the machine that made the wheels; as in "glibc 2.36"."""
    if not found:
        return
    has, own = version(found), version(made_on)
    if lacking := {wheel: least for wheel in sorted(wheels) if (least := needed(wheel, own)) > has}:
        each = ", ".join(f"{wheel} (glibc {_text(least)})" for wheel, least in lacking.items())
        raise DeployError(
            f"{host} has glibc {_text(has)}, which is too old for {each}. "
            "Deploy from a machine whose glibc is not newer than that of the hosts"
        )


def version(text: str) -> Version:
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else ANY


def needed(wheel: str, own: Version) -> Version:
    """The least that one of its tags is content with."""
    return min(_of_platform(tag.platform, own) for tag in parse_wheel_filename(wheel)[3])


def _of_platform(platform: str, own: Version) -> Version:
    if platform.startswith("linux_"):
        return own
    name, _, rest = platform.partition("_")
    return version(rest.replace("_", ".", 1)) if name == "manylinux" else FORMER_NAMES.get(name, ANY)


def _text(one: Version) -> str:
    return ".".join(map(str, one))
