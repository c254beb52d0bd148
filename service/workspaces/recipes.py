"""The command line behind each step that is run for a workspace. A caller names the step and gives checked scalars;
paths and programs come from here. The standard library alone, as in places.py.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from service.workspaces import dotenv, looking
from service.workspaces.places import Home, Places

MARK: Final = "SANDBOX_WORKSPACE_HOME"
PATH: Final = "/usr/local/bin:/usr/bin:/bin"
SHA: Final = re.compile(r"[0-9a-f]{40,64}")
NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")
PROGRAM: Final = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._/-]{0,200}")
REFUSED_IN_A_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(^|/)\.|\.lock(/|$)|^[-/]|[/.]$|^@?$")

# What git clears up now and then, it clears up within the step: nothing of a step goes on after it.
GIT: Final = (
    "git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c protocol.ext.allow=never -c gc.autoDetach=false"
)
CLONE: Final = f"""
rm -rf "$2.new"
{GIT} clone --quiet --no-hardlinks --no-recurse-submodules --template= -c core.hooksPath=/dev/null -- "$1" "$2.new"
{GIT} -C "$2.new" remote set-url origin "$3"
mv -T "$2.new" "$2"
"""
# The file is there while git writes for us. What was killed leaves it, and its locks: these go, unless they are of
# another user, or a git works there.
BEGUN: Final = """
begun=.git/sandbox.begun
cut_off=
if [ -e "$begun" ]; then
    cut_off=$(cat "$begun")
    for each in /proc/[0-9]*; do
        read -r name <"$each/comm" && [ "$name" = git ] || continue
        case "$(readlink "$each/cwd")/" in "$(pwd -P)"/*) echo "a git is at work here: $each"; exit 1 ;; esac
    done 2>/dev/null
    find .git -type f -name "*.lock" -user "$(id -u)" -delete
fi
trap '[ $? -gt 128 ] || rm -f "$begun"' EXIT
"""
# HEAD comes last. Where the branch is there already, it is the person's, and so is what is checked out.
CHECKOUT: Final = f"""
{BEGUN.strip()}
{GIT} show-ref --verify --quiet "refs/heads/$2" || cut_off=checkout
echo "${{cut_off:-settings}}" >"$begun"
{GIT} config "branch.$2.remote" origin
{GIT} config "branch.$2.merge" "refs/heads/$2"
mkdir -p .git/info
for name in /.env __pycache__/; do
    grep -qxF "$name" .git/info/exclude 2>/dev/null || echo "$name" >>.git/info/exclude
done
{GIT} fetch --quiet --no-recurse-submodules --prune "$1" "+refs/heads/*:refs/remotes/origin/*"
if ! {GIT} show-ref --verify --quiet "refs/heads/$2"; then
    {GIT} checkout --quiet --no-track -b "$2" "$3"
elif [ "$cut_off" = checkout ]; then
    {GIT} checkout --quiet "$2" --
fi
"""
# What a git has left that was killed while it cleared up. git, too, takes a gc.pid of twelve hours for a dead one's.
CLEARING_UP: Final = """
find .git .git/objects -maxdepth 1 -type f \\( -name gc.log.lock -o -name maintenance.lock \\) -user "$(id -u)" \\
    -mmin +720 -delete
"""
GIT_FORWARD: Final = f"""
at=$({GIT} symbolic-ref --quiet HEAD || echo "no branch")
if [ "$at" != "refs/heads/$2" ]; then
    echo "${{at#refs/heads/}} is checked out, and an update follows the workspace's branch alone: check that out again"
    exit 1
fi
{BEGUN.strip()}
echo forward >"$begun"
{CLEARING_UP.strip()}
{GIT} fetch --quiet --no-recurse-submodules --prune "$1" "+refs/heads/*:refs/remotes/origin/*"
{GIT} merge --ff-only "refs/remotes/origin/$2"
"""
# What goes with the clone: also its submodules, and its other working trees. A name may hold `%`, so formats hold none.
# A submodule may stand at what only a tag holds, or at what was fetched alone: there its history ends (`shallow`).
GIT_STATUS: Final = f"""
export GIT_DIR=.git GIT_WORK_TREE=.
tell() {{
    before=$1
    shift
    found=$("$@")
    [ -z "$found" ] || printf "%s\\n" "$found" | while IFS= read -r line; do printf "%s\\n" "$before$line"; done
}}
changed() {{
    tell "uncommitted: $1" {GIT} -c status.showUntrackedFiles=normal status --porcelain=v1 --ignore-submodules=none
}}
kept() {{
    tell "not pushed: $1" {GIT} log -n 50 --format="%h %s" HEAD --branches --not --remotes $2
    tell "stashed: $1" {GIT} stash list --format="%gd: %gs"
    parts "$1"
}}
parts() {{
    {GIT} ls-files -z --stage | tr "\\0" "\\n" | sed -n "s/^160000 [^\\t]*\\t//p" | while IFS= read -r part; do
        [ -e "./$part/.git" ] && [ "$(cd "./$part"; pwd -P)" = "$(pwd -P)/$part" ] || continue
        (
            cd "./$part"
            fetched=$(cat "$({GIT} rev-parse --git-path shallow)" 2>/dev/null || true)
            kept "$1in $part: " "--tags $fetched"
        )
    done
}}
changed ""
kept ""
{GIT} worktree list --porcelain | sed -n "1d; s/^worktree //p" | while IFS= read -r tree; do
    [ -e "$tree/.git" ] || continue
    cd "$tree"
    changed "in $tree: "
    tell "not pushed: in $tree: " {GIT} log -n 50 --format="%h %s" HEAD --not --branches --remotes
    parts "in $tree: "
done
"""
VENV: Final = 'rm -rf "$2"; "$1" -m venv "$2"'
REQUIREMENTS: Final = f"""
printf %s "$3" >"$1/{looking.MARK}"
[ -z "$2" ] || "$1/bin/python" -m pip install --quiet --no-input --no-compile -r "$2"
"$1/bin/python" -m pip check
"""
FREEZE: Final = """
"$1/bin/python" -m pip freeze --all >"$1/freeze.new"
mv "$1/freeze.new" "$1/freeze.txt"
"""
SWITCH: Final = 'ln -sfn "venvs/$1" venv.new; mv -Tf venv.new venv'
PRUNE: Final = 'for each in venvs/*; do [ "$each" = "venvs/$1" ] || rm -rf "$each"; done'
COPY: Final = """
import os, sqlite3, sys
source, target = sys.argv[1:]
made = sqlite3.connect(target + ".new")
if os.path.exists(source):
    with sqlite3.connect("file:" + source + "?mode=ro", uri=True) as original:
        original.backup(made)
made.execute("pragma user_version")
made.close()
open(target + ".new", "ab").close()
os.rename(target + ".new", target)
"""
TEST_BY_PROCFILE: Final = re.compile(r"^test:[ \t]*(\S.*)$", re.MULTILINE)
PREFIXES: Final = ("uncommitted: ", "not pushed: ", "stashed: ")  # of the lines of GIT_STATUS


class BadArguments(ValueError):
    """A step was asked for with arguments that it does not take."""


class CommandLine(NamedTuple):
    """A command line, ready to be run."""

    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]


class Asked(NamedTuple):
    """What a step is asked with: whose, the arguments as texts, and what the host's owner has settled."""

    places: Places
    home: Home
    arguments: Sequence[str]
    origin: str  # for people's own pushes: without secrets
    wheels: str = ""  # the address of an index, or a folder of wheels


def line(step: str, asked: Asked) -> CommandLine:
    if step not in _LINES:
        raise BadArguments(f"there is no step {step!r}")
    return _LINES[step](asked)


def environment(home: Home) -> dict[str, str]:
    """What the project's own code finds: nothing of the caller's, and what its .env says."""
    said = dotenv.read(home.env.read_text(encoding="utf-8")) if home.env.is_file() else {}
    return {
        **said,
        **marked(home),
        "PATH": f"{home.venv}/bin:{PATH}",
        "VIRTUAL_ENV": str(home.venv),
        "HOME": str(home.data),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def marked(home: Home) -> dict[str, str]:
    """Whose a process is, also one that gives itself another title: setproctitle would write over its environment."""
    return {MARK: str(home.path), "SPT_NOENV": "1"}


def _bare(home: Home) -> dict[str, str]:
    return {**marked(home), "PATH": PATH}


def _git_environment(home: Home) -> dict[str, str]:
    return {
        **marked(home),
        "PATH": PATH,
        "HOME": str(home.data),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",  # to look leaves no lock behind
    }


def _shell(script: str, *words: object) -> list[str]:
    return ["/bin/sh", "-ec", script.strip(), "sh", *map(str, words)]


def _clone(asked: Asked) -> CommandLine:
    _count(asked, 0)
    words = _shell(CLONE, asked.places.mirror, asked.home.code, asked.origin)
    return CommandLine(words, asked.home.path, _git_environment(asked.home))


def _checkout(asked: Asked) -> CommandLine:
    branch, sha = _count(asked, 2)
    words = _shell(CHECKOUT, asked.places.mirror, _branch(branch), _matching(SHA, sha))
    return CommandLine(words, asked.home.code, _git_environment(asked.home))


def _git_forward(asked: Asked) -> CommandLine:
    (branch,) = _count(asked, 1)
    words = _shell(GIT_FORWARD, asked.places.mirror, _branch(branch))
    return CommandLine(words, asked.home.code, _git_environment(asked.home))


def _git_status(asked: Asked) -> CommandLine:
    _count(asked, 0)
    return CommandLine(_shell(GIT_STATUS), asked.home.code, _git_environment(asked.home))


def _venv(asked: Asked) -> CommandLine:
    number, python = _count(asked, 2)
    words = _shell(VENV, _matching(PROGRAM, python), _numbered(asked.home, number))
    return CommandLine(words, asked.home.path, _installing(asked, with_index=False))


def _requirements(asked: Asked) -> CommandLine:
    (number,) = _count(asked, 1)
    file, made_for = looking.requirements_file(asked.home) or "", looking.required(asked.home)  # which may change now
    words = _shell(REQUIREMENTS, _numbered(asked.home, number), file, made_for)
    return CommandLine(words, asked.home.code, _installing(asked, with_index=True))


def _freeze(asked: Asked) -> CommandLine:
    (number,) = _count(asked, 1)
    words = _shell(FREEZE, _numbered(asked.home, number))
    return CommandLine(words, asked.home.code, _installing(asked, with_index=False))


def _switch(asked: Asked) -> CommandLine:
    (number,) = _count(asked, 1)
    return CommandLine(_shell(SWITCH, _matching(NUMBER, number)), asked.home.path, _bare(asked.home))


def _prune(asked: Asked) -> CommandLine:
    (number,) = _count(asked, 1)
    return CommandLine(_shell(PRUNE, _matching(NUMBER, number)), asked.home.path, _bare(asked.home))


def _database(asked: Asked) -> CommandLine:
    (kind,) = _count(asked, 1)
    source = {"copy": str(asked.places.database), "empty": ""}.get(kind)
    if source is None:
        raise BadArguments(f"a database is copied or empty, not {kind!r}")
    words = [sys.executable, "-I", "-c", COPY, source, str(asked.home.database)]
    return CommandLine(words, asked.home.path, _bare(asked.home))


def _manage(*words: str) -> Callable[[Asked], CommandLine]:
    def made(asked: Asked) -> CommandLine:
        _count(asked, 0)
        return CommandLine(["python", "manage.py", *words], asked.home.code, environment(asked.home))

    return made


def _test(asked: Asked) -> CommandLine:
    _count(asked, 0)
    code = asked.home.code
    procfile = code / "Procfile"
    found = TEST_BY_PROCFILE.search(procfile.read_text(encoding="utf-8")) if procfile.is_file() else None
    if found:
        words = _shell(found[1])
    elif (code / "manage.py").is_file():
        words = ["python", "manage.py", "test", "--noinput"]
    else:
        words = ["python", "-m", "pytest"]
    return CommandLine(words, code, environment(asked.home))


def _installing(asked: Asked, *, with_index: bool) -> dict[str, str]:
    """An index is an address, or a folder of wheels."""
    found = {
        **marked(asked.home),
        "PATH": PATH,
        "HOME": str(asked.home.data),
        "LANG": "C.UTF-8",
        "PIP_CACHE_DIR": str(asked.places.cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if not (with_index and asked.wheels):
        return found
    if asked.wheels.startswith("/"):
        return {**found, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": asked.wheels}
    return {**found, "PIP_INDEX_URL": asked.wheels}


def _count(asked: Asked, number: int) -> Sequence[str]:
    if len(asked.arguments) != number:
        raise BadArguments(f"{number} arguments are needed, not {len(asked.arguments)}")
    return asked.arguments


def _branch(text: str) -> str:
    if REFUSED_IN_A_BRANCH.search(text) or len(text) > 254:
        raise BadArguments("that cannot be a branch")
    return text


def _numbered(home: Home, text: str) -> Path:
    return home.venvs / _matching(NUMBER, text)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise BadArguments(f"{text!r} is not allowed here")
    return text


_LINES: Final[Mapping[str, Callable[[Asked], CommandLine]]] = {
    "clone": _clone,
    "checkout": _checkout,
    "venv": _venv,
    "requirements": _requirements,
    "freeze": _freeze,
    "switch": _switch,
    "prune": _prune,
    "database": _database,
    "migrate": _manage("migrate", "--noinput"),
    "collectstatic": _manage("collectstatic", "--noinput", "--verbosity", "0"),
    "test": _test,
    "git-status": _git_status,
    "git-forward": _git_forward,
}
