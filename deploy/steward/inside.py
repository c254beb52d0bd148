"""What is done in a workspace's folder. All of it is called as its user (as_user)."""

import contextlib
import os
import struct
from pathlib import Path
from typing import Final

from service.workspaces.places import Home

LINE_BYTES: Final = 8_000
LOG_BYTES: Final = 1_000_000
ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as the kernel keeps it: tag, rights, number."""
    nobody = 0xFFFFFFFF
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, rights, nobody if number < 0 else number) for tag, rights, number in sorted(entries)
    )


def open_to(folder: Path, web_uid: int, web_rights: int, *, and_below: bool) -> None:
    """The group does what the owner does, whatever the umask; nginx gets what it is given, others get nothing."""
    entries = [(ACL_USER_OBJ, 7, -1), (ACL_GROUP_OBJ, 7, -1), (ACL_MASK, 7, -1), (ACL_OTHER, 0, -1)]
    shown = [*entries, (ACL_USER, web_rights, web_uid)]
    os.setxattr(folder, "system.posix_acl_access", acl(*shown))
    os.setxattr(folder, "system.posix_acl_default", acl(*(shown if and_below else entries)))


def lay_out(home: Home, web_uid: int) -> None:
    """The log comes last: whether all this is there is seen by it."""
    _lay(home.path)
    open_to(home.path, web_uid, 1, and_below=False)
    _lay(home.data)
    open_to(home.data, web_uid, 1, and_below=False)
    _lay(home.static)
    open_to(home.static, web_uid, 5, and_below=True)
    _lay(home.venvs)
    _lay(home.log)


def _lay(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o2770)


def named(folder: Path) -> set[int]:
    """The users and groups that have a right of their own to it."""
    found: set[int] = set()
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        with contextlib.suppress(OSError):
            entries = struct.iter_unpack("<HHI", os.getxattr(folder, name)[4:])
            found |= {number for tag, _, number in entries if tag in (ACL_USER, ACL_GROUP)}
    return found


def link_media(home: Home, media: Path) -> None:
    if not (home.media.is_symlink() and os.readlink(home.media) == str(media)):
        home.media.unlink(missing_ok=True)
        home.media.symlink_to(media)


def unlink_media(home: Home) -> None:
    """What else stands there is the workspace's own, and goes with its folder."""
    if home.media.is_symlink():
        home.media.unlink()


def last_lines(file: Path) -> list[str]:
    """None of what is no file: why a process does not answer is told all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as opened:
            opened.seek(max(0, os.fstat(descriptor).st_size - 64_000))
            return opened.read(64_000).decode(errors="replace").splitlines()[-200:]
    return []


def keep_log(reading: int, file: Path) -> None:
    """Writes what comes by a pipe, until nobody writes any more."""
    while chunk := os.read(reading, LINE_BYTES):
        with contextlib.suppress(OSError):
            if file.exists() and file.stat().st_size > LOG_BYTES:
                file.rename(file.with_suffix(".log.1"))
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o660)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(chunk)
