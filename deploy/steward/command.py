"""`steward serve|check`, and what members and the circusd of the workspaces call."""

import argparse
import json
import signal
import socket
import time
from pathlib import Path
from typing import IO, Any, Final

from steward.config import Config
from steward.daemon import say, serve
from steward.request import MEMBERS
from steward.verbs import look

CONFIG: Final = Path("/etc/sandbox/steward.toml")


def ask(config: Config, request: dict[str, Any], descriptor: int | None = None) -> tuple[socket.socket, IO[str]]:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(config.socket)
    text = json.dumps(request).encode() + b"\n"
    if descriptor is None:
        connection.sendall(text)
    else:
        socket.send_fds(connection, [text], [descriptor])
    return connection, connection.makefile(encoding="utf-8")


def web(config: Config, slug: str, descriptor: int, port: int) -> int:
    """What the circusd of the workspaces starts: hands its socket on, and lives as long as the web process."""
    connection, answers = ask(config, {"verb": "web", "slug": slug, "port": port}, descriptor)
    signal.signal(signal.SIGTERM, lambda *_: connection.sendall(b"end\n"))
    answer = json.loads(answers.readline() or '{"refused": "the steward is gone"}')
    if "refused" in answer:
        say(answer["refused"])
        time.sleep(1)  # and not at once again
    return int(answer.get("exit", 1)) % 256


def member(config: Config, verb: str, slug: str) -> int:
    _, answers = ask(config, {"verb": verb, "slug": slug})
    answer = json.loads(answers.readline() or '{"refused": "the steward is gone"}')
    if "refused" in answer:
        say(answer["refused"])
        return 1
    done = answer["done"]
    print("\n".join(done) if isinstance(done, list) else done["state"] if done else "restarted")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="steward", description="What root does for workspaces: docs/steward.md.")
    parser.add_argument("--config", type=Path, default=CONFIG, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="the daemon")
    verbs.add_parser("check", help="what this machine can do; changes nothing")
    for verb in MEMBERS:
        verbs.add_parser(verb, help="of a workspace that you are a member of").add_argument("slug")
    one = verbs.add_parser("web")
    one.add_argument("slug")
    one.add_argument("descriptor", type=int)
    one.add_argument("port", type=int)
    given = parser.parse_args()
    config = Config.read(given.config)
    if given.verb == "serve":
        serve(config)
    elif given.verb == "check":
        print(json.dumps(look(config), indent=1))
    elif given.verb == "web":
        return web(config, given.slug, given.descriptor, given.port)
    else:
        return member(config, given.verb, given.slug)
    return 0
