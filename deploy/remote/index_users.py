"""Makes the mirror, the user and the stage index of devpi-server what they shall be. Given on standard input, as JSON:
{port, user, name, password, mirror, public}. Twice is once."""

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

given = json.load(sys.stdin)
BASE = f"http://127.0.0.1:{given['port']}"


def call(method: str, path: str, body: Any = None, login: str = "") -> Any:
    """The answer, or None where there is nothing."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if login:
        headers["X-Devpi-Auth"] = base64.b64encode(login.encode()).decode()
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        sys.exit(f"devpi: {method} {path}: {error.code} {error.read().decode(errors='replace')[:500]}")


def log_in(user: str, password: str) -> str:
    answer = call("POST", "/+login", {"user": user, "password": password})
    return f"{user}:{answer['result']['password']}"


# As devpi, whose folder it is: root would follow a link of his.
read = ["runuser", "-u", "devpi", "--", "cat", "/var/lib/devpi/root-password"]
root = log_in("root", subprocess.run(read, stdout=subprocess.PIPE, check=True, text=True).stdout.strip())
user, index = f"/{given['user']}", f"/{given['user']}/{given['name']}"
wanted = {
    "type": "stage",
    "bases": ["root/pypi"],
    "volatile": False,
    "mirror_whitelist": given["public"],
    "acl_upload": [given["user"]],
}
if given["mirror"]:  # without it, it is what devpi makes it
    call("PATCH", "/root/pypi", {"type": "mirror", "volatile": False, "mirror_url": given["mirror"]}, root)
call("PATCH" if call("GET", user) else "PUT", user, {"password": given["password"]}, root)
call("PATCH" if call("GET", index) else "PUT", index, wanted, root)
