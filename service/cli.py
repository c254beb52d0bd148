"""The command `sandbox`. What a command needs is imported when it is called: most are small."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from service import __version__
from service.errors import SandboxError, SettingsError

REDIS_WAIT_SECONDS: Final = 60.0


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    try:
        return int(arguments.command(arguments))
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="A task service: HTTP, Redis, runners.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("run", run, "start everything in the foreground; Ctrl-C stops it"),
        ("env", env, 'print what circusd and circusctl need: eval "$(sandbox env)"'),
        ("path", path, "print the folder that holds circus.ini and conf/"),
        ("types", types, "print the task types and their queues"),
        ("redis", redis, "become the embedded Redis (circusd calls this)"),
        ("redis-sync", redis_sync, "bring the embedded Redis's data to the disk once a second (circusd calls this)"),
        ("runner", runner, "execute tasks (circusd calls this)"),
        ("observer", observer, "tell metrics what the supervisor does (circusd calls this)"),
        ("version", version, "print the version"),
    ):
        commands.add_parser(name, help=text, description=text).set_defaults(command=command)
    saves = commands.add_parser("backup", help="copy the embedded Redis's data while it works")
    saves.add_argument("file", metavar="FILE.tar", type=Path)
    saves.set_defaults(command=backup)
    _add_dashboards_commands(commands.add_parser("dashboards", help="the dashboards for graphite-web"))
    _add_token_commands(commands.add_parser("token", help="API tokens in the file that SANDBOX_TOKENS names"))
    return parser


def _add_dashboards_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    load = commands.add_parser("load", help="save them there, for the metrics that begin with STATSD_PREFIX")
    where = "where graphite-web is; GRAPHITE_URL, if left out: a password belongs there, for everybody sees arguments"
    load.add_argument("url", metavar="URL", nargs="?", help=where)
    load.set_defaults(command=dashboards_load)


def _add_token_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("add", help="make a token and show it once")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--scope", choices=("read", "write"), required=True)
    add.set_defaults(command=token_add)
    commands.add_parser("list", help="names and scopes").set_defaults(command=token_list)
    remove = commands.add_parser("remove", help="make a token invalid")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(command=token_remove)


def run(_: argparse.Namespace) -> int:
    """Becomes circusd: its signals, its exit code."""
    from service import settings
    from service.supervise import announce, environment, start

    read = settings.read(os.environ)
    start.check(read)
    os.environ.update(environment.variables(read))
    announce.in_background(read)
    from circus import circusd

    sys.argv[:] = ["circusd", str(environment.conf_folder() / "circus.ini")]
    circusd.main()
    return 0


def env(_: argparse.Namespace) -> int:
    from service import settings
    from service.supervise import environment

    print(environment.exports(settings.read(os.environ), os.environ))
    return 0


def path(_: argparse.Namespace) -> int:
    from service.supervise import environment

    print(environment.conf_folder())
    return 0


def types(_: argparse.Namespace) -> int:
    from service import settings, wiring

    sys.path.append(os.getcwd())  # where the service, started in this folder, would find them too
    for task_type in wiring.registry(settings.read(os.environ)):
        print(f"{task_type.name}\t{task_type.queue}")
    return 0


def redis(_: argparse.Namespace) -> int:
    """Holds the lock of the data for as long as the server lives: two servers would ruin them."""
    from service import embedded, settings
    from service.supervise import state

    read = settings.read(os.environ)
    folder = state.redis_folder(read)
    holder = state.lock(folder / "lock", wait_seconds=REDIS_WAIT_SECONDS, survives_exec=True)
    if holder is not None:
        raise SandboxError(f"another Redis (process {holder}) still serves {folder}")
    log = read.logs / "redis.log"
    _write_to(log)
    embedded.run(read.sockets / "redis.sock", folder, read.fsync, log)
    return 0


def redis_sync(_: argparse.Namespace) -> int:
    from service import fsync, settings
    from service.supervise import state

    fsync.become(str(state.redis_folder(settings.read(os.environ)) / "appendonlydir"))
    return 0


def backup(arguments: argparse.Namespace) -> int:
    from service import backup, settings
    from service.supervise import state

    read = settings.read(os.environ)
    if not read.embedded_redis:
        raise SettingsError("REDIS_URL is set: the data are in that Redis, which has to be backed up in its own way.")
    backup.save(state.redis_folder(read), arguments.file)
    return 0


def _write_to(log: Path) -> None:
    """What this process prints goes into the log from here on."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())


def runner(_: argparse.Namespace) -> int:
    from service import trial

    trial.begin()
    from service import logs, settings
    from service.supervise import environment

    environment.name_session()
    read = settings.read(os.environ)
    logs.keep_output("runner", read.logs)
    logs.keep_small(read.logs / "redis.log")
    lines = logs.configure("runner", read.logs, read.log_level, read.log_format)
    from service import wiring

    try:
        return wiring.run_runner(read, lines)
    except SandboxError as error:
        logging.getLogger("sandbox").error("%s", error)  # what is printed from here on does not reach the terminal
        trial.fail()  # now, though threads of the task types may hold up the end
        return 1


def observer(_: argparse.Namespace) -> int:
    from service import logs, settings, wiring
    from service.supervise import observer

    read = settings.read(os.environ)
    logs.keep_output("observer", read.logs)
    logs.configure("observer", read.logs, read.log_level, read.log_format)
    errors = wiring.errors(read, "observer")

    def refused(watcher: str, facts: Mapping[str, object]) -> None:
        tags = {"watcher": watcher, "release": facts.get("release")}
        errors.capture_message(f"a reload of {watcher} was refused", tags=tags, extra=facts)

    try:
        return observer.run(read, os.environ["CIRCUSCTL_ENDPOINT"], refused=refused)
    finally:
        errors.flush()


def dashboards_load(arguments: argparse.Namespace) -> int:
    from service import settings
    from service.supervise import dashboards, environment
    from service.supervise.graphite import Graphite

    folder = environment.conf_folder() / "conf" / "graphite" / "dashboards"
    read = settings.read(os.environ)
    url = arguments.url or read.graphite_url
    if not url:
        raise SettingsError("GRAPHITE_URL is not set; it, or the argument URL, says where graphite-web is.")
    for address in dashboards.load(Graphite(url), read.statsd_prefix, folder):
        print(address)
    return 0


def version(_: argparse.Namespace) -> int:
    print(f"sandbox {__version__}")
    return 0


def token_add(arguments: argparse.Namespace) -> int:
    from service.web import tokens

    print(tokens.add(_tokens_file(), arguments.name, arguments.scope))
    return 0


def token_list(_: argparse.Namespace) -> int:
    from service.web import tokens

    for token in tokens.read(_tokens_file()):
        print(f"{token.name}\t{token.scope}")
    return 0


def token_remove(arguments: argparse.Namespace) -> int:
    from service.web import tokens

    tokens.remove(_tokens_file(), arguments.name)
    return 0


def _tokens_file() -> Path:
    from service import settings

    file = settings.read(os.environ).tokens
    if file is None:
        raise SettingsError("SANDBOX_TOKENS is not set; it names the file that holds the tokens.")
    return file


if __name__ == "__main__":
    sys.exit(main())
