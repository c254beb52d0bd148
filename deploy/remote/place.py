"""Puts files where they belong, and leaves those that a person has changed. Given on standard input, as JSON:
{"files": [{path, owner, group, mode, content}], "overwrite": bool, "secrets": [names]}. Prints {path: what was done}.

/etc/sandbox/placed holds the checksum of what was last put in each place, as sha256sum writes it: a file that differs
from it was changed by hand. The site of nginx is tried in a copy of nginx's configuration before it is put in place;
nginx is told to reload, and must answer with the site's mark, or the former file comes back.
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
from pathlib import Path

RECORD = Path("/etc/sandbox/placed")
SITE = Path("/etc/nginx/sites-available/sandbox")
ENABLED = Path("/etc/nginx/sites-enabled/sandbox")
CONFIRM_SECONDS = 10


def checksum(content):
    return hashlib.sha256(content.encode()).hexdigest()


def read(path):
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def recorded():
    lines = (read(RECORD) or "").splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def record(placed):
    write(RECORD, "".join(f"{digest}  {path}\n" for path, digest in sorted(placed.items())), 0, 0, 0o644)


def write(path, content, owner, group, mode):
    """The file is there as a whole, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, mode)
    os.replace(draft, path)


def is_as_wanted(path, content, owner, group, mode):
    if read(path) != content:
        return False
    now = path.stat()
    return (now.st_uid, now.st_gid, now.st_mode & 0o7777) == (owner, group, mode)


def place(file, placed, overwrite, secrets):
    path = Path(file["path"])
    owner, group = pwd.getpwnam(file["owner"]).pw_uid, grp.getgrnam(file["group"]).gr_gid
    wanted = (path, file["content"], owner, group, file["mode"])
    before = read(path)
    if is_as_wanted(*wanted) and (path != SITE or ENABLED.exists()):
        outcome = "same"
    elif before not in (None, file["content"]) and placed.get(str(path)) != checksum(before) and not overwrite:
        names = (f"{path} (on the host)", f"{path} (rendered)")
        shown = (masked(text, secrets).splitlines() for text in (before, file["content"]))
        lines = difflib.unified_diff(*shown, *names, n=2, lineterm="")
        return "left, because somebody has changed it (--overwrite replaces it):\n" + "\n".join(lines)
    elif path == SITE:
        outcome = place_site(before, wanted)
    else:
        write(*wanted)
        outcome = "written"
    placed[str(path)] = checksum(file["content"])
    return outcome


def masked(text, secrets):
    """The values of these variables are shown to nobody, be they of now or of before."""
    for name in secrets:
        text = re.sub(rf"(?m)^({name}=).*$", r"\1***", text)
    return text


def place_site(before, wanted):
    try_site(wanted[1])
    write(*wanted)
    if not ENABLED.exists():
        ENABLED.symlink_to(SITE)
    try:
        tell_nginx()
        confirm(wanted[1])
    except Exception:
        if before is None:
            ENABLED.unlink()
            SITE.unlink()
        else:
            write(SITE, before, *wanted[2:])
        with contextlib.suppress(subprocess.CalledProcessError):
            tell_nginx()
        raise
    return "written, and nginx serves it"


def try_site(content):
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


def tell_nginx():
    running = subprocess.run(["service", "nginx", "status"], capture_output=True).returncode == 0
    words = ["service", "nginx", "reload" if running else "start"]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def confirm(content):
    """A reload of nginx is told at once and done later: its answer must have the mark of this very site."""
    mark = next(line.split()[-1].strip(';"') for line in content.splitlines() if line.startswith("# mark "))
    until = time.monotonic() + CONFIRM_SECONDS
    while (seen := served_mark()) != mark:
        if time.monotonic() > until:
            sys.exit(f"nginx does not serve the new site: its mark is {seen}, not {mark}; see /var/log/nginx/error.log")
        time.sleep(0.05)


def served_mark():
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", 443, timeout=3, context=context)
    try:
        connection.request("GET", "/", headers={"Host": "not-this-one.invalid"})
        return connection.getresponse().getheader("X-Sandbox-Site")
    except (OSError, http.client.HTTPException) as error:
        return f"none ({error})"
    finally:
        connection.close()


def main():
    given = json.load(sys.stdin)
    placed = recorded()
    before = dict(placed)
    outcomes = {}
    try:
        for file in given["files"]:
            outcomes[file["path"]] = place(file, placed, given["overwrite"], given["secrets"])
    finally:
        if placed != before:
            record(placed)
    json.dump(outcomes, sys.stdout)


main()
