"""Publishes wheels. A line of JSON, {port, user, name, password}, and then a tar of wheels are on standard input.

A file that is there already stays: the index never changes what somebody may have installed.
"""

import base64
import io
import json
import sys
import tarfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping

given = json.loads(sys.stdin.buffer.readline())
BASE = f"http://127.0.0.1:{given['port']}"


def call(path: str, content: bytes, kind: str, login: str = "") -> bytes:
    headers = {"Content-Type": kind, "Accept": "application/json"}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    request = urllib.request.Request(BASE + path, content, headers, method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return bytes(answer.read())


def form(fields: Mapping[str, str], name: str, content: bytes) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    body = io.BytesIO()
    for key, value in fields.items():
        body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode())
    body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n'.encode())
    body.write(b"Content-Type: application/octet-stream\r\n\r\n" + content + f"\r\n--{boundary}--\r\n".encode())
    return body.getvalue(), f"multipart/form-data; boundary={boundary}"


def upload(name: str, content: bytes, login: str) -> str:
    project, version, python = name.split("-")[0], name.split("-")[1], name.split("-")[2]
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": project.replace("_", "-"),
        "version": version,
        "filetype": "bdist_wheel",
        "pyversion": python,
    }
    try:
        call(f"/{given['user']}/{given['name']}/", *form(fields, name, content), login)
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return f"{name} is there"
        sys.exit(f"devpi does not take {name}: {error.code} {error.read().decode(errors='replace')[:500]}")
    return f"{name} published"


try:
    account = json.dumps({"user": given["user"], "password": given["password"]}).encode()
    token = json.loads(call("/+login", account, "application/json"))["result"]["password"]
except urllib.error.HTTPError as error:
    sys.exit(f"devpi does not let {given['user']} in: {error.code}")
with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
    for member in tar:
        wheel = tar.extractfile(member)
        assert wheel is not None
        print(upload(member.name, wheel.read(), f"{given['user']}:{token}"))
