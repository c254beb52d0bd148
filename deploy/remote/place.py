"""Puts files where they belong, and leaves those that a person has changed. Given on standard input, as JSON:
{"what", "release", "files": [{path, owner, group, mode, content}], "overwrite": bool, "secrets": [names]}.
Prints {path: what was done}. `what` is one of

- `now`: the files are put in their places.
- `keep`: they are tried, and kept until the release is the current one. Nothing changes in their places.
- `put`: what was kept for the release is put in its places.
- `back`: what was replaced since a release was last verified comes back, and nothing is kept.
- `settle`: what `now` has put there stays, whatever comes back, and nothing is kept.

/etc/sandbox/next/<release>.json is what is kept; the settings alone, for the commands that run before the release is
the current one, lie beside it (.default). /etc/sandbox/former.json is what was replaced, and whether by `now` or `put`;
verified.sh removes it. It has what served well, however many deploys were given up since.

/etc/sandbox/placed holds the checksum of what was last put in each place, as sha256sum writes it: a file that differs
from it, and from what we were about to put there, was changed by hand. The site of nginx is tried in a copy of nginx's
configuration before it is put in place; nginx is told to reload, and must answer with the site's mark, or the former
file comes back.
"""

import contextlib
import difflib
import grp
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

RECORD = Path("/etc/sandbox/placed")
NEXT = Path("/etc/sandbox/next")
FORMER = Path("/etc/sandbox/former.json")
SETTINGS = Path("/etc/default/sandbox")
SITE = Path("/etc/nginx/sites-available/sandbox")
ENABLED = Path("/etc/nginx/sites-enabled/sandbox")
UNITS = Path("/etc/systemd/system")
CONFIRM_SECONDS = 10
KEY = os.urandom(32)


class File(NamedTuple):
    """A file as it shall be."""

    path: Path
    content: str
    owner: int
    group: int
    mode: int

    @classmethod
    def of(cls, given: dict[str, Any]) -> "File":
        owner, group = pwd.getpwnam(given["owner"]).pw_uid, grp.getgrnam(given["group"]).gr_gid
        return cls(Path(given["path"]), given["content"], owner, group, given["mode"])

    @property
    def is_there(self) -> bool:
        if read(self.path) != self.content:
            return False
        if self.path == SITE and not site_is_served(self.content):
            return False
        now = self.path.stat()
        return (now.st_uid, now.st_gid, now.st_mode & 0o7777) == self[2:]


def checksum(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def write(file: File) -> None:
    """The file is there as a whole, or as it was, also after a power cut."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=file.path.parent, prefix=f".{file.path.name}.")
    with os.fdopen(descriptor, "w") as target:
        target.write(file.content)
        os.fchown(descriptor, file.owner, file.group)
        os.fchmod(descriptor, file.mode)
        target.flush()
        os.fsync(descriptor)
    os.replace(draft, file.path)


# --- what was put where, what is to be, and what was --------------------------------------------------


def recorded() -> dict[str, str]:
    lines = (read(RECORD) or "").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def record(placed: dict[str, str]) -> None:
    lines = (f"{digest}  {path}\n" for path, digest in sorted(placed.items()))
    write(File(RECORD, "".join(lines), 0, 0, 0o644))


def kept(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(read(path) or '{"files": []}')["files"]
    return found


def keep(path: Path, files: list[dict[str, Any]]) -> None:
    """Only root reads it: it may hold secrets."""
    write(File(path, json.dumps({"files": files}), 0, 0, 0o600))


def keep_settings(release: str, file: File) -> None:
    write(file._replace(path=NEXT / f"{release}.default"))


def drop_next() -> None:
    shutil.rmtree(NEXT, ignore_errors=True)


def keep_former(file: File, why: str) -> None:
    """What served when a release was last verified is kept, not what an unverified one has put over it."""
    found = kept(FORMER)
    before = read(file.path)
    if before is None or before == file.content or str(file.path) in [one["path"] for one in found]:
        return
    now = file.path.stat()
    owner, group = pwd.getpwuid(now.st_uid).pw_name, grp.getgrgid(now.st_gid).gr_name
    mode = now.st_mode & 0o7777
    one = {"path": str(file.path), "owner": owner, "group": group, "mode": mode, "content": before, "why": why}
    keep(FORMER, [*found, one])


def are_wished(paths: set[str]) -> None:
    """`setup` has left them as they are now, whoever has put them there."""
    found = kept(FORMER)
    if any(one["path"] in paths and one.get("why") != "now" for one in found):
        keep(FORMER, [{**one, "why": "now"} if one["path"] in paths else one for one in found])


def settle_setup() -> None:
    """A deploy or rollback that fails undoes no setup: that was somebody's wish."""
    found = kept(FORMER)
    stay = [one for one in found if one.get("why") != "now"]
    if not stay:
        FORMER.unlink(missing_ok=True)
    elif stay != found:
        keep(FORMER, stay)


def ours(placed: dict[str, str]) -> dict[str, set[str]]:
    """By path, the checksums of what was put there by us, or was about to be when a script was ended."""
    found = {path: {digest} for path, digest in placed.items()}
    for record in (FORMER, *NEXT.glob("*.json")):
        for file in kept(record):
            found.setdefault(file["path"], set()).add(checksum(file["content"]))
    return found


# --- one file -----------------------------------------------------------------------------------------


def difference(file: File, known: dict[str, set[str]], secrets: list[str] | None) -> str | None:
    """What somebody has changed by hand, as a diff."""
    before = read(file.path)
    if before in (None, file.content) or checksum(str(before)) in known.get(str(file.path), ()):
        return None
    names = (f"{file.path} (on the host)", f"{file.path} (rendered)")
    was, shall = (masked(text, file, secrets).splitlines() for text in (str(before), file.content))
    lines = difflib.unified_diff(was, shall, *names, n=2, lineterm="")
    return "left, because somebody has changed it (setup --overwrite replaces it):\n" + "\n".join(lines)


def masked(text: str, file: File, secrets: list[str] | None) -> str:
    """The value of a setting that the stage does not name in clear may be a secret, of now or of before: a hash by the
    key tells whether it is another one."""
    shown = set() if secrets is None else set(re.findall(r"(?m)^(\w+)=", file.content)) - set(secrets)

    def mask(found: re.Match[str]) -> str:
        if found[1] in shown:
            return found[0]
        return f"{found[1]}=*** ({hashlib.blake2b(found[2].encode(), key=KEY, digest_size=4).hexdigest()})"

    return re.sub(r"(?m)^([^=\n]*)=(.*)$", mask, text) if file.path == SETTINGS else text


def put(file: File) -> str:
    if file.path == SITE:
        return put_site(file)
    write(file)
    if UNITS in file.path.parents and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=True, stdin=subprocess.DEVNULL)
    return "written"


def announce(file: File) -> str:
    if file.path == SITE:
        try_site(file.content)
    return "changes with the switch"


# --- the site of nginx --------------------------------------------------------------------------------


def put_site(file: File) -> str:
    before = read(SITE)
    try_site(file.content)
    write(file)
    if not ENABLED.exists():
        ENABLED.symlink_to(SITE)
    try:
        tell_nginx()
        confirm(file.content)
    except BaseException:
        if before is None:
            ENABLED.unlink()
            SITE.unlink()
        else:
            write(file._replace(content=before))
        with contextlib.suppress(subprocess.CalledProcessError):
            tell_nginx()
        raise
    return "written, and nginx serves it"


def try_site(content: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nginx"
        shutil.copytree("/etc/nginx", copy)
        for file in copy.rglob("*"):
            if file.is_file() and not file.is_symlink():
                text = file.read_bytes()
                if b"/etc/nginx" in text:
                    file.write_bytes(text.replace(b"/etc/nginx", str(copy).encode()))
        (copy / "sites-enabled" / "sandbox").unlink(missing_ok=True)
        (copy / "sites-enabled" / "sandbox").write_text(content.replace("/etc/nginx", str(copy)))
        tried = subprocess.run(["nginx", "-t", "-q", "-c", str(copy / "nginx.conf")], capture_output=True, text=True)
        if tried.returncode != 0:
            sys.exit(
                f"nginx refuses the site, which was not put in place:\n{tried.stderr.replace(str(copy), '/etc/nginx')}"
            )


def tell_nginx() -> None:
    running = subprocess.run(["service", "nginx", "status"], capture_output=True).returncode == 0
    words = ["service", "nginx", "reload" if running else "start"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def site_is_served(content: str) -> bool:
    """A script that is killed once the file is there has not told nginx yet."""
    return ENABLED.exists() and served_mark() == mark_of(content)


def mark_of(content: str) -> str:
    return next(line.split()[-1].strip(';"') for line in content.splitlines() if line.startswith("# mark "))


def confirm(content: str) -> None:
    """A reload of nginx is told at once and done later: its answer must have the mark of this very site."""
    mark = mark_of(content)
    until = time.monotonic() + CONFIRM_SECONDS
    while (seen := served_mark()) != mark:
        if time.monotonic() > until:
            sys.exit(f"nginx does not serve the new site: its mark is {seen}, not {mark}; see /var/log/nginx/error.log")
        time.sleep(0.05)


def served_mark() -> str | None:
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", 443, timeout=3, context=context)
    try:
        connection.request("GET", "/", headers={"Host": "not-this-one.invalid"})
        return connection.getresponse().getheader("X-Sandbox-Site")
    except (OSError, http.client.HTTPException) as error:
        return f"none ({error})"
    finally:
        connection.close()


# --- all files ----------------------------------------------------------------------------------------


def each(
    given: Iterable[dict[str, Any]], call: Callable[[File], str], *, overwrite: bool, secrets: list[str] | None
) -> dict[str, str]:
    """Calls for each file that is not as it shall be, unless a person has changed it."""
    placed = recorded()
    before, known = dict(placed), ours(placed)
    outcomes: dict[str, str] = {}
    try:
        for file in map(File.of, given):
            changed = None if overwrite else difference(file, known, secrets)
            outcomes[str(file.path)] = changed or ("same" if file.is_there else call(file))
            if not changed and (there := read(file.path)) is not None:
                placed[str(file.path)] = checksum(there)
    finally:
        if placed != before:
            record(placed)
    return outcomes


def keep_next(release: str, files: list[dict[str, Any]], **how: Any) -> dict[str, str]:
    outcomes = each(files, announce, **how)
    settle_setup()
    drop_next()
    keep(NEXT / f"{release}.json", files)
    for file in map(File.of, files):
        if file.path == SETTINGS and not outcomes[str(SETTINGS)].startswith("left"):
            keep_settings(release, file)
    return outcomes


def main() -> None:
    os.umask(0o022)  # a folder is for all, also the service's user; a file has a mode of its own
    given = json.load(sys.stdin)
    what, release, files = given["what"], given["release"], given["files"]
    rendered = what in ("now", "keep")  # else nothing tells which of the settings are secrets
    how = {"overwrite": given["overwrite"], "secrets": given["secrets"] if rendered else None}
    if what == "keep":
        outcomes = keep_next(release, files, **how)
    elif what == "back":
        outcomes = each(kept(FORMER), put, **how)
        FORMER.unlink(missing_ok=True)
        drop_next()
    elif what == "settle":
        settle_setup()
        drop_next()
        outcomes = {}
    else:
        files = files if what == "now" else kept(NEXT / f"{release}.json")

        def replace(file: File) -> str:
            keep_former(file, what)
            return put(file)

        outcomes = each(files, replace, **how)
        if what == "put":
            drop_next()
        else:
            are_wished({path for path, outcome in outcomes.items() if not outcome.startswith("left")})
    json.dump(outcomes, sys.stdout)


main()
