"""Users, groups and their members, in /etc/passwd and /etc/group."""

import grp
import pwd
import time
from collections.abc import Callable
from typing import Any, Final

from steward.config import Config
from steward.errors import Refused
from steward.programs import call
from steward.uids import Uids

LOWEST_LOGIN: Final = 1000  # below are the system's own users
NO_PERSONS: Final = (range(61_184, 65_520), range(65_534, 65_536))  # systemd's dynamic users; nobody, and the old -1
PASSWD_SECONDS: Final = 30  # for the lock of /etc/passwd


class Users:
    def __init__(self, config: Config, uids: Uids) -> None:
        self._config = config
        self._uids = uids

    def make(self, slug: str) -> int:
        with self._uids.locked():
            uid = self._uids.reserve(slug)
            if self._number(grp.getgrnam, slug) is None:
                change("groupadd", "--gid", str(uid), slug)
            if self._number(pwd.getpwnam, slug) is None:
                home = str(self._config.places.home(slug).data)
                shell = ("--shell", "/usr/sbin/nologin", "--no-create-home", "--home-dir", home)
                change("useradd", "--system", "--no-log-init", "--uid", str(uid), "--gid", str(uid), *shell, slug)
            self._check(slug, uid)
        return uid

    def is_there(self, slug: str, uid: int) -> bool:
        """The table alone says only that they were begun."""
        return all(self._number(look, slug) == uid for look in (pwd.getpwnam, grp.getgrnam))

    def remove(self, slug: str) -> None:
        with self._uids.locked():
            uid = self._uids.all().get(slug)
            if uid is None:
                return
            self._check(slug, uid)
            if self._number(pwd.getpwnam, slug) is not None:
                change("userdel", slug)
            if self._number(grp.getgrnam, slug) is not None:
                change("groupdel", slug)
            self._uids.release(slug)

    def _check(self, slug: str, uid: int) -> None:
        """What has the name but not the number is somebody else's."""
        for look, what in ((pwd.getpwnam, "user"), (grp.getgrnam, "group")):
            if self._number(look, slug) not in (None, uid):
                raise Refused(f"there is a {what} {slug} that is not the steward's: it is left as it is")

    @staticmethod
    def _number(look: Callable[[str], Any], name: str) -> int | None:
        try:
            return int(look(name)[2])
        except KeyError:
            return None

    def grant(self, slug: str, login: str) -> None:
        self._person(login)
        with self._uids.locked():
            self._uids.of(slug)
            if login not in grp.getgrnam(slug).gr_mem:
                change("gpasswd", "--add", login, slug)

    def revoke(self, slug: str, login: str) -> None:
        with self._uids.locked():
            self._uids.of(slug)
            if login in grp.getgrnam(slug).gr_mem:
                change("gpasswd", "--delete", login, slug)

    def _person(self, login: str) -> None:
        try:
            uid = pwd.getpwnam(login).pw_uid
        except KeyError:
            raise Refused(f"there is no login {login} on this host") from None
        others = (*NO_PERSONS, self._config.uids(), (self._config.service_uid,))
        if uid < LOWEST_LOGIN or any(uid in each for each in others):
            raise Refused(f"{login} is no person's login")

    def is_member(self, uid: int, slug: str) -> bool:
        """As the files say now: a session that is older than `revoke` has the group still."""
        try:
            return self._uids.all()[slug] == uid or pwd.getpwuid(uid).pw_name in grp.getgrnam(slug).gr_mem
        except KeyError:
            return False


def change(*words: str) -> None:
    """A command that writes /etc/passwd or /etc/group; somebody else's lock passes."""
    until = time.monotonic() + PASSWD_SECONDS
    while True:
        done = call(*words)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr or time.monotonic() > until:
            raise Refused(f"{words[0]} has failed: {done.stderr.strip()}")
        time.sleep(0.1)
