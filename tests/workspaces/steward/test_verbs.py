"""Who may ask for what, and what is there before and after."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from service.workspaces import dotenv
from steward import inside
from tests.servers import BUSY, eventually
from tests.workspaces.steward.stage import BASE, MINE, NEIGHBOURS, PROGRAM, SOCKET, StewardHost

PROJECT = {"README": "a project"}
SECRET = "SECRET_KEY"


def refused(answers: list[dict[str, Any]]) -> str:
    [answer] = answers
    return str(answer["refused"])


NO_SLUGS = (
    *(
        "",
        "w-",
        "w-jo",
        "W-JO-AAAAAAAA",
        "w-jo-aaaaaaaa/..",
        "../w-jo-aaaaaaaa",
        "w-jo-aaaaaaaa\n",
        "-w-jo-aaaaaaaa",
        7,
    ),
    *(None, "root", "sandbox", f"w-{'a' * 21}-aaaaaaaa", "w-$(id)-aaaaaaaa", "w-jo-aaaaaaaa\0", ["w-jo-aaaaaaaa"]),
)


def test_what_is_no_slug_is_refused(host: StewardHost) -> None:
    for slug in NO_SLUGS:
        verb = "remove_folders"
        assert refused(host.answers({"verb": verb, "slug": slug})) == "slug is not what it must be"


NOT_LISTED = (
    "",
    "[]",
    "nothing",
    "{}",
    '{"verb": "sh"}',
    '{"verb": ["run"]}',
    '{"verb": "__init__"}',
    '{"verb": "make_user"}',
    json.dumps({"verb": "make_user", "slug": MINE, "uid": 0}),
    json.dumps({"verb": "run", "slug": MINE, "step": "sh", "arguments": [], "seconds": 1}),
    json.dumps({"verb": "run", "slug": MINE, "step": "clone", "arguments": ["/etc"], "seconds": 1}),
    json.dumps({"verb": "run", "slug": MINE, "step": "venv", "arguments": ["1", "/bin/sh"], "seconds": 1}),
    json.dumps({"verb": "run", "slug": MINE, "step": "venv", "arguments": ["../1", "python3"], "seconds": 1}),
    json.dumps({"verb": "run", "slug": MINE, "step": "test", "arguments": [], "seconds": 1e9}),
    json.dumps({"verb": "grant", "slug": MINE, "login": "-x"}),
    json.dumps({"verb": "grant", "slug": MINE, "login": "root"}),
    json.dumps({"verb": "grant", "slug": MINE, "login": "sandbox"}),
    json.dumps({"verb": "grant", "slug": MINE, "login": NEIGHBOURS}),
    json.dumps({"verb": "write_env", "slug": MINE, "values": {"A": "a\nB=b"}}),
    json.dumps({"verb": "write_env", "slug": MINE, "values": {"A=": "a"}}),
    json.dumps({"verb": "web", "slug": MINE, "port": 0}),
    "x" * 60_000,
)


def test_what_is_not_on_the_list_is_refused(host: StewardHost) -> None:
    host.do("make_user")
    host.do("make_user", NEIGHBOURS)
    host.do("make_folders")
    for request in NOT_LISTED:
        assert refused(host.answers(request)), request
    assert host.answers("x" * 100_000) in ([], [{"refused": "a request is one line of JSON"}])


def test_the_services_user_may_ask_for_everything(host: StewardHost) -> None:
    assert host.ask("about", user="sandbox")["done"]["base"] == BASE


def test_a_check_says_what_there_is_and_changes_nothing(host: StewardHost) -> None:
    def groups() -> set[Path]:
        found = Path("/sys/fs/cgroup").glob("**/sandbox-workspaces")
        return {group for group in found if "steward-of-tests" not in str(group)}

    check = f"/usr/bin/python3 -I {PROGRAM} check"
    before = groups()
    assert json.loads(host.host.sh(check)) == host.ask("about")["done"]["isolation"]
    elsewhere = host.host.sh(f"unshare --net sh -c '{check}; ip rule show'")  # where there are no rules yet
    assert "reachable until the steward is started" in elsewhere
    assert "prohibit" not in elsewhere
    assert groups() == before


def test_a_member_may_look_at_and_restart_his_own_and_is_refused_the_rest(host: StewardHost) -> None:
    host.project(**PROJECT)
    host.build()
    host.build(NEIGHBOURS)
    assert refused(host.answers({"verb": "status", "slug": MINE}, "jo")) == "you are no member of it"

    host.do("grant", login="jo")
    host.do("grant", login="jo")
    assert host.ask("status", user="jo", slug=MINE)["done"]["state"] == "stopped"
    assert "does not run" in refused(host.answers({"verb": "restart", "slug": MINE}, "jo"))
    for verb in ("status", "restart", "log"):
        assert refused(host.answers({"verb": verb, "slug": NEIGHBOURS}, "jo")) == "you are no member of it"
    for verb in ("facts", "kill", "remove_folders", "make_user", "about"):
        assert refused(host.answers({"verb": verb, "slug": MINE}, "jo")) == "only the service may ask for that"
    run = {"verb": "run", "slug": MINE, "step": "test", "arguments": [], "seconds": 1}
    assert refused(host.answers(run, "jo")) == "only the service may ask for that"

    host.do("revoke", login="jo")
    assert refused(host.answers({"verb": "status", "slug": MINE}, "jo")) == "you are no member of it"


def test_a_member_and_the_workspace_write_each_others_files_and_nobody_else_does(host: StewardHost) -> None:
    host.project(**PROJECT)
    host.build()
    host.do("grant", login="jo")
    code = f"{BASE}/w/{MINE}/code"
    as_jo = "setpriv --reuid=jo --regid=jo --init-groups sh -c"
    host.host.sh(f"{as_jo} 'umask 022; echo jo >{code}/new; mkdir {code}/folder; echo jo >>{code}/README'")
    host.host.sh(
        f"setpriv --reuid={MINE} --regid={MINE} --clear-groups sh -c 'echo x >>{code}/new; rm -r {code}/folder'"
    )
    assert host.host.run(*as_jo.replace("jo", "eve").split(), f"ls {code}", check=False).returncode != 0
    assert host.host.sh(f"stat -c %G {code}/new") == MINE


def test_nginx_reads_what_is_static_and_nothing_else(host: StewardHost) -> None:
    host.project(**PROJECT)
    host.build()
    home = f"{BASE}/w/{MINE}"
    host.host.sh(
        f"setpriv --reuid={MINE} --regid={MINE} --clear-groups sh -c 'umask 077; echo a >{home}/data/static/a.css'"
    )
    as_nginx = ("setpriv", "--reuid=www-data", "--regid=www-data", "--init-groups")
    assert host.host.run(*as_nginx, "cat", f"{home}/data/static/a.css").stdout == "a\n"
    for other in (f"{home}/code/README", f"{home}/.env", f"{home}/log"):
        assert host.host.run(*as_nginx, "ls", other, check=False).returncode != 0


def test_the_settings_are_the_groups_to_read_and_keep_their_secret(host: StewardHost) -> None:
    host.project(**{".env.example": "DEBUG=no\nPORT=1\n"})
    host.build()
    host.do("write_env", values={"PORT": "8100", "ALLOWED_HOSTS": "a,b"})
    file = host.path(f"{BASE}/w/{MINE}/.env")
    before = dotenv.read(file.read_text())
    assert (before["DEBUG"], before["PORT"]) == ("no", "8100")
    assert before["DATABASE_URL"] == f"sqlite:///{BASE}/w/{MINE}/data/database.sqlite3"
    found = file.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o640, host.uid())
    host.do("write_env", values={"PORT": "8101"})
    assert dotenv.read(file.read_text())[SECRET] == before[SECRET]


def test_a_link_leads_the_steward_to_nothing_that_the_workspace_could_not_reach(host: StewardHost) -> None:
    host.project(**PROJECT)
    host.build()
    home = f"{BASE}/w/{MINE}"
    shadow = host.host.sh("cat /etc/shadow")
    lay = (
        f"cd {home}; ln -sf /etc/shadow .env; ln -sf /etc/shadow log/web.log; ln -sf /etc/shadow code/.env.example;"
        f"rm -rf data/static; ln -s /etc data/static; rm -rf venvs; ln -s /etc venvs; ln -s /root media"
    )
    host.host.run("setpriv", f"--reuid={MINE}", f"--regid={MINE}", "--clear-groups", "sh", "-c", lay)
    owner = host.host.sh("stat -c '%U %a' /etc /root /etc/shadow")
    answers = [host.answers({"verb": verb, "slug": MINE}) for verb in ("make_folders", "log", "facts", "link_media")]
    answers.append(host.answers({"verb": "write_env", "slug": MINE, "values": {"A": "1"}}))
    assert "root:" not in json.dumps(answers)
    assert host.host.sh("cat /etc/shadow") == shadow
    assert host.host.sh("stat -c '%U %a' /etc /root /etc/shadow") == owner
    host.do("remove_folders")
    assert host.host.sh("stat -c '%U %a' /etc /root /etc/shadow") == owner


@pytest.mark.parametrize(("size", "problem"), [("1M", "more than 1000000 bytes"), ("300M", "MiB of memory to read")])
def test_files_too_large_to_read_are_refused_in_words(size: str, problem: str, host: StewardHost) -> None:
    host.project(test="true")
    host.build()
    home = f"{BASE}/w/{MINE}"
    as_its_user = ("setpriv", f"--reuid={MINE}", f"--regid={MINE}", "--clear-groups", "sh", "-c")
    host.host.run(
        *as_its_user, f"echo A=\"$(head -c 2000000 /dev/zero | tr '\\0' x)\" | tee {home}/.env >{home}/code/.git/HEAD"
    )
    host.host.run(*as_its_user, f"truncate -s '>{size}' {home}/.env {home}/code/.git/HEAD")
    facts = json.dumps(host.answers({"verb": "facts", "slug": MINE}))
    assert "done" in facts and len(facts) < 10_000, "of such files nothing is told"
    run = {"verb": "run", "slug": MINE, "step": "test", "arguments": [], "seconds": 60}
    assert problem in refused(host.answers(run))
    assert host.ask("about")["done"]["base"] == BASE


def test_after_a_removal_nothing_is_left_and_no_uid_comes_again(host: StewardHost) -> None:
    host.do("remove_folders")
    host.do("remove_user")
    files = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
    before = [host.path(file).read_text() for file in files]
    host.project(**PROJECT)
    host.build()
    first = host.uid()
    host.do("grant", login="jo")
    home = f"{BASE}/w/{MINE}"
    lay = (
        f"cd {home}/code; mkdir -p closed/x; chmod 0 closed; ln -s /srv/project out; mkfifo pipe;"
        "i=0; while [ $i -lt 300 ]; do mkdir d; cd d; i=$((i+1)); done; setsid sleep 300 >/dev/null 2>&1 &"
    )
    host.host.run("setpriv", f"--reuid={MINE}", f"--regid={MINE}", "--clear-groups", "sh", "-c", lay)
    left = host.do("left")
    assert {word.split()[0] + " " + word.split()[1] for word in left} == {
        "its folder",
        "the user",
        "the group",
        "the process",
    }

    host.do("kill")
    assert host.do("processes") == []
    host.do("remove_folders")
    host.do("remove_user")
    host.do("remove_user")
    assert host.do("left") == []
    assert [host.path(file).read_text() for file in files] == before
    assert host.path("/srv/project/README").exists()

    host.do("make_user")
    assert host.uid() > first
    host.do("remove_user")


def test_a_user_that_is_only_in_the_table_is_made(host: StewardHost) -> None:
    """As after a kill in the midst of it."""
    host.do("make_user")
    uid = host.uid()
    for command in (f"userdel {MINE}", f"userdel {MINE}; groupdel {MINE}"):
        host.host.sh(command, check=False)
        assert host.do("facts") == {"user": False}
        host.do("make_user")
        assert host.do("facts")["user"] is True and host.uid() == uid


def test_what_it_owns_where_everybody_may_write_goes_with_it(host: StewardHost) -> None:
    host.host.sh("mkdir -p /run/lock; mount -t tmpfs -o mode=1777 tmpfs /run/lock")
    host.do("make_user")
    lay = "touch /run/lock/mine; mkdir /tmp/mine; touch /tmp/mine/file; ln -s /srv /tmp/mine/link"
    host.host.run("setpriv", f"--reuid={MINE}", f"--regid={MINE}", "--clear-groups", "sh", "-c", lay)
    host.host.sh("touch /run/lock/others")
    left = host.do("left")
    assert {"the file /run/lock/mine", "the file /tmp/mine/file"} <= set(left) and len(set(left)) == len(left)
    host.do("remove_folders")
    host.do("remove_user")
    assert host.do("left") == []
    assert host.host.sh("ls /run/lock; ls -d /srv /tmp/mine", check=False).split() == ["others", "/srv"]
    host.host.run("umount", "/run/lock")


def test_a_right_of_its_own_to_what_all_share_is_told(host: StewardHost) -> None:
    host.do("make_user")
    nobody = -1
    entries = [(kind, 7, nobody) for kind in (inside.ACL_USER_OBJ, inside.ACL_GROUP_OBJ, inside.ACL_MASK)]
    rights = inside.acl(*entries, (inside.ACL_OTHER, 5, nobody), (inside.ACL_USER, 7, host.uid()))
    media = host.path(f"{BASE}/media")
    os.setxattr(media, "system.posix_acl_access", rights)
    host.do("remove_folders")
    host.do("remove_user")
    assert host.do("left") == [f"its entry in the access list of {BASE}/media"]
    os.removexattr(media, "system.posix_acl_access")
    assert host.do("left") == []


def test_a_user_of_this_name_that_somebody_else_has_made_is_left(host: StewardHost) -> None:
    stranger = "w-strange-cccccccc"
    host.host.run("useradd", "--system", "--no-create-home", stranger)
    for verb in ("make_user", "remove_user"):
        assert "not the steward's" in refused(host.answers({"verb": verb, "slug": stranger})), verb
    assert host.host.run("id", stranger, check=False).returncode == 0


def test_a_folder_in_the_place_of_the_link_to_the_media_goes_with_all_else(host: StewardHost) -> None:
    """As somebody makes it who wants to upload."""
    host.project(**PROJECT)
    host.build()
    lay = f"mkdir {BASE}/w/{MINE}/media; touch {BASE}/w/{MINE}/media/lamp.svg"
    host.host.run("setpriv", f"--reuid={MINE}", f"--regid={MINE}", "--clear-groups", "sh", "-c", lay)
    for verb in ("unlink_media", "remove_folders", "remove_user"):
        host.do(verb)
    assert host.do("left") == []


def test_what_is_done_already_is_no_error(host: StewardHost) -> None:
    host.project(**PROJECT)
    host.build()
    for verb in ("make_user", "make_folders", "link_media", "link_media", "end_steps", "kill", "kill"):
        host.do(verb)
    assert host.do("facts")["media"] is True
    for verb in ("unlink_media", "unlink_media", "remove_folders", "remove_folders", "unlink_media", "remove_user"):
        host.do(verb)
    assert host.do("facts") == {"user": False}
    assert host.path(f"{BASE}/media").exists()


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_when_the_steward_ends_all_that_it_began_does(signal: str, host: StewardHost) -> None:
    host.project(test="trap '' TERM; setsid sleep 600 & sleep 600")
    host.build()
    uid = host.uid()
    with host.asking("run", slug=MINE, step="test", arguments=[], seconds=600):
        eventually(lambda: len(host.do("processes")) >= 3, 30 * BUSY)
        host.stop_steward(signal)
        eventually(lambda: host.host.sh(f"pgrep -u {uid}", check=False) == "", 30 * BUSY)
    host.start_steward()
    host.do("end_steps")
    assert host.do("facts")["sha"]


def test_who_holds_connections_holds_up_nobody(host: StewardHost) -> None:
    script = f"""
import socket, sys, time
held = []
for _ in range(20):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect({SOCKET!r})
print(sum(1 for each in held if each.recv(1) == b""))
"""
    done = host.host.run(
        "setpriv", "--reuid=eve", "--regid=eve", "--clear-groups", "/usr/bin/python3", "-I", "-c", script
    )
    assert host.ask("about")["done"]["base"] == BASE
    assert int(done.stdout) >= 16
