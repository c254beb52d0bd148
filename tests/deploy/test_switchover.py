"""Where hosts go back to when a switchover fails. Nobody connects: phases only note that they were called."""

import dataclasses
import json
import os
import subprocess
from typing import Any

from rollout.releases import OnHost
from tests.deploy.conftest import needs_fab
from tests.deploy.project import FAB
from tests.deploy.test_releases import id_of, on_host
from tests.system.instance import ROOT

# By the Python of fab. $1: what each host has, the release, which phases fail, and keys of the stage, as JSON.
SWITCHES = """
import json, sys
from dataclasses import replace
from pathlib import Path
from rollout import errors, host, phases, releases, stage, sudo, switchover, tasks

given, done = json.loads(sys.argv[1]), []
def noting(name):
    def call(host, *words, **_):
        done.append([name, str(host), *(word for word in words if isinstance(word, str))])
        for *where, error in given["fails"]:
            if where == [name, str(host)]:
                raise getattr(errors, error, OSError)("on purpose")
    setattr(phases, name, call)
for name in ("switch", "reload", "verify", "switch_back", "mark_bad", "mark_verified"):
    noting(name)
read = replace(stage.read(Path("deploy"), "production"), **given["keys"])
found = {
    host.Host(name, read, sudo.Password()): releases.from_facts(facts) for name, facts in given["hosts"].items()
}
try:
    switchover.Switchover(read, tasks.Team(read), found).to(given["to"], 1, restart=False)
except errors.TakenBack as error:
    done.append(["said", str(error)])
json.dump(done, sys.stderr)
"""


def switched(hosts: dict[str, OnHost], to: str, *fails: tuple[str, str, str], **keys: Any) -> list[list[str]]:
    """What was done, in order. `keys` are of the stage."""
    needs_fab()
    facts = {name: dataclasses.asdict(host) for name, host in hosts.items()}
    given = {"hosts": facts, "to": to, "fails": fails, "keys": keys}
    words = [str(FAB.with_name("python")), "-c", SWITCHES, json.dumps(given, default=list)]
    environment = {**os.environ, "PYTHONPATH": "deploy"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stderr)
    return found


def test_a_host_that_served_the_release_before_keeps_it_and_it_is_not_bad_there() -> None:
    hosts = {"a": on_host("vv", current=1, serving=id_of(1)), "b": on_host("vv", current=0, serving=id_of(0))}
    done = switched(hosts, id_of(1), ("verify", "b", "HostFailed"))
    assert [what for what in done if what[0] == "switch_back"] == [
        ["switch_back", "b", id_of(0)],
        ["switch_back", "a", id_of(1)],
    ]
    assert [what[1] for what in done if what[0] == "mark_bad"] == ["b"]


def test_what_was_verified_before_is_not_bad_because_a_task_waits() -> None:
    done = switched(
        {"a": on_host("vgv", current=2), "b": on_host("ggv", current=2)}, id_of(0), ("verify", "a", "StillWaits")
    )
    assert [what[1] for what in done if what[0] == "mark_bad"] == ["b"]


def test_nor_because_tasks_wait_on_several_hosts_at_once() -> None:
    hosts = {name: on_host("vgv", current=2) for name in "abc"}
    waits = [("verify", name, "StillWaits") for name in "bc"]
    done = switched(hosts, id_of(0), *waits, parallel=2)
    assert [what[1] for what in done if what[0] == "mark_bad"] == []


def test_whatever_keeps_one_host_from_going_back_the_others_go() -> None:
    hosts = {name: on_host("vg", current=0) for name in "ab"}
    done = switched(hosts, id_of(1), ("verify", "b", "HostFailed"), ("switch_back", "b", "OSError"))
    assert ["switch_back", "a", id_of(0)] in done
    assert [what[:2] for what in done if what[0] == "mark_bad"] == [["mark_bad", "a"], ["mark_bad", "b"]]
    assert "b could not be taken back: OSError: on purpose" in done[-1][1]


def test_with_on_failure_stop_only_those_go_back_that_were_switched_together_with_what_failed() -> None:
    hosts = {name: on_host("vg", current=0) for name in "abcd"}
    done = switched(hosts, id_of(1), ("verify", "b", "HostFailed"), on_failure="stop", parallel=2)
    for name, called in {"switch": "abc", "switch_back": "bc", "mark_bad": "bc", "mark_verified": "a"}.items():
        assert sorted(what[1] for what in done if what[0] == name) == list(called), name
    assert 'left on the new release (on_failure = "stop"): a' in done[-1][1]
