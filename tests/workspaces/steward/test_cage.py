"""What strangers' code sees, reaches and uses up. It is run as a project's own tests are."""

import time

import pytest

from steward.cage import SCRATCH
from tests.servers import BUSY, eventually
from tests.workspaces.steward.stage import BASE, GIVE, KEEP, LIMITS, MINE, NEIGHBOURS, StewardHost

NOTHING = "0000000000000000"
OPENS = (
    'import ctypes, mmap, os, threading, time; files = [os.open(name, os.O_RDWR | os.O_CREAT) for name in "ab"];'
    '[os.remove(name) for name in "ab"]; [os.write(file, bytes(40 << 20)) for file in files];'
)
MAPS = "kept = [mmap.mmap(file, 40 << 20) for file in files];"
A_THREAD_OPENS = (
    "threading.Thread(target=lambda: (ctypes.CDLL(None).unshare(0x400), time.sleep(600))).start(); time.sleep(1);"
)
CLOSES = "os.closerange(3, 99);"


def test_a_step_has_the_workspaces_user_no_privilege_and_nothing_of_anybodys_environment(host: StewardHost) -> None:
    output, last = host.test("id -un; id -Gn; umask; cat /proc/self/status; env; ls -l /proc/self/fd; ulimit -a")
    assert last == {"exit": 0}
    lines = output.splitlines()
    assert lines[:3] == [MINE, MINE, "0007"]
    for capability in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{capability}:\t{NOTHING}" in lines
    assert "NoNewPrivs:\t1" in lines
    names = {line.partition("=")[0] for line in lines if line.partition("=")[0].isupper() and "=" in line}
    assert names <= {
        *("HOME", "PATH", "LANG", "PWD", "OLDPWD", "VIRTUAL_ENV", "SANDBOX_WORKSPACE_HOME"),
        *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "SPT_NOENV"),
    }
    assert not any("socket:" in line for line in lines)


def test_it_sees_no_process_but_its_own_and_cannot_end_the_first(host: StewardHost) -> None:
    output, last = host.test(
        "ls -d /proc/[0-9]* | wc -l; kill -9 1 || echo refused; cat /proc/1/environ || echo hidden"
    )
    assert last == {"exit": 0}
    count, *rest = output.splitlines()
    assert int(count) < 10
    assert "refused" in rest and "hidden" in rest


def test_it_reads_and_writes_nothing_of_the_service_of_neighbours_and_of_people(host: StewardHost) -> None:
    host.do("make_user", NEIGHBOURS)
    host.do("make_folders", NEIGHBOURS)
    host.host.sh("install -d -o sandbox -m 750 /var/lib/sandbox; echo secret >/var/lib/sandbox/tokens")
    host.host.sh("chmod 700 /home/jo; echo secret >/home/jo/file; echo secret >/etc/sandbox/secret")
    host.host.sh("chmod 600 /etc/sandbox/secret")
    read = ("/var/lib/sandbox/tokens", "/home/jo/file", "/etc/shadow", "/etc/sandbox/secret")
    write = ("/etc", "/srv", "/var/lib", BASE, f"{BASE}/w", f"{BASE}/mirror.git", "/run", "/usr/bin")
    listed = (f"{BASE}/w", f"{BASE}/w/{NEIGHBOURS}", "/var/lib/sandbox-steward")
    tries = [f"cat {place} && echo DONE {place}" for place in read]
    tries += [f"touch {place}/mine && echo DONE {place}" for place in write]
    tries += [f"ls {place} && echo DONE {place}" for place in listed]
    output, _ = host.test("\n".join(tries))
    assert len(output.splitlines()) >= len(tries)  # each has said why not
    assert "DONE" not in output


def test_what_it_leaves_in_the_folders_of_all_is_gone_with_it(host: StewardHost) -> None:
    host.host.sh("mkdir -p /run/lock; chmod 1777 /run/lock")
    places = [place for place in SCRATCH if host.host.run("test", "-d", place, check=False).returncode == 0]
    assert "/run/lock" in places
    _, last = host.test(f"set -e; for place in {' '.join(places)}; do echo x >$place/of-a-workspace; done")
    assert last == {"exit": 0}
    assert host.host.sh(f"find {' '.join(places)} -name of-a-workspace") == ""


def test_it_does_not_reach_where_a_cloud_tells_its_hosts_secrets(host: StewardHost) -> None:
    addresses = ("169.254.169.254", "100.100.100.200", "168.63.129.16")
    calls = []
    for address in addresses:
        host.host.sh(f"ip route replace {address}/32 via {host.host.gateway}")
        calls.append(f"/usr/bin/python3 -c \"import socket; socket.create_connection(('{address}', 80), 2)\"")
    output, last = host.test("\n".join(calls))
    assert last["exit"] != 0 and output.count("PermissionError: ") == len(addresses), output


def test_a_fork_bomb_is_bounded_and_ends(host: StewardHost) -> None:
    output, last = host.test("bomb() { bomb | bomb & }; bomb & exec sleep 60", seconds=4)
    assert "took longer than 4 seconds" in last["refused"], output
    assert host.do("processes") == []


def test_memory_is_bounded(host: StewardHost) -> None:
    output, last = host.test("/usr/bin/python3 -c 'x = bytearray(900_000_000); print(len(x))'")
    assert last.get("exit") != 0 and "900000000" not in output


def test_a_disk_that_is_filled_by_many_files_ends_the_step(host: StewardHost) -> None:
    script = "while :; do head -c 4000000 /dev/zero >$HOME/$(cat /proc/sys/kernel/random/uuid); done"
    _, last = host.test(script, seconds=60)
    assert f"of {LIMITS['disk_mb']}, and was ended" in last["refused"]


@pytest.mark.parametrize("holds", ["", MAPS + CLOSES, A_THREAD_OPENS + CLOSES], ids=["open", "mapped", "a-thread"])
def test_a_disk_that_is_filled_by_deleted_files_ends_the_step(holds: str, host: StewardHost) -> None:
    script = f"cd $HOME; exec /usr/bin/python3 -c '{OPENS} {holds} time.sleep(600)'"
    output, last = host.test(script, seconds=60)
    assert f"of {LIMITS['disk_mb']}, and was ended" in last["refused"], output


def test_more_files_than_it_may_have_end_the_step(host: StewardHost) -> None:
    script = "cd $HOME; seq 1 30000 | xargs touch; exec sleep 600"
    _, last = host.test(script, seconds=300)
    assert f"files and folders, of {LIMITS['inodes']}, and was ended" in last["refused"]


def test_one_large_file_is_bounded(host: StewardHost) -> None:
    _, last = host.test("head -c 200000000 /dev/zero >$HOME/large")
    assert last.get("exit") != 0
    assert int(host.host.sh(f"stat -c %s {BASE}/w/{MINE}/data/large")) <= LIMITS["disk_mb"] << 20


def test_what_ignores_its_end_and_hides_in_sessions_of_its_own_ends_all_the_same(host: StewardHost) -> None:
    script = "trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo started"
    output, last = host.test(script)
    assert (output, last) == ("started", {"exit": 0})
    assert host.do("processes") == []


def test_when_its_caller_is_gone_all_of_it_is(host: StewardHost) -> None:
    host.project(test="trap '' TERM; setsid sleep 600 & sleep 600")
    host.build()
    request = {"slug": MINE, "step": "test", "arguments": [], "seconds": 600}
    with host.asking("run", **request):
        eventually(lambda: len(host.do("processes")) >= 3, 30 * BUSY)
    eventually(lambda: host.do("processes") == [], 30 * BUSY)


def test_its_end_is_told_though_somebody_keeps_what_it_writes_to(host: StewardHost) -> None:
    host.project(test="/usr/bin/python3 -I give.py && echo given\n", **{"give.py": GIVE})
    host.build()
    with host.running(KEEP, MINE) as said:
        assert host.run("test") == ("given", {"exit": 0})
        assert "keeps" in said.read_text()
        host.do("end_steps")


def test_who_waits_for_its_end_and_is_gone_is_not_waited_for(host: StewardHost) -> None:
    def requests() -> int:
        """Without those that have ended."""
        states = host.host.sh("ps -o stat= --ppid $(cat /run/steward.pid)", check=False)
        return sum(not state.startswith("Z") for state in states.splitlines())

    host.project(test="sleep 600")
    host.build()
    with host.asking("run", slug=MINE, step="test", arguments=[], seconds=600):
        eventually(lambda: host.do("processes") and requests() == 1, 30 * BUSY)
        with host.asking("end_steps", slug=MINE):
            eventually(lambda: requests() == 2, 30 * BUSY)
        eventually(lambda: requests() == 1, 30 * BUSY)


def test_what_is_said_comes_in_lines_as_it_is_said(host: StewardHost) -> None:
    began = time.monotonic()
    script = "printf 'a\\nb'; printf 'c\\n\\377\\n'; head -c 20000 /dev/zero | tr '\\0' x; exit 3"
    output, last = host.test(script)
    assert last == {"exit": 3} and time.monotonic() > began
    lines = output.splitlines()
    assert lines[:3] == ["a", "bc", "\ufffd"]
    assert [len(line) for line in lines[3:]] == [8000, 8000, 4000]
