"""`sandbox limit`, beside a real service."""

import json

from tests.cli.conftest import Command


def test_a_limit_is_set_shown_and_removed(sandbox: Command) -> None:
    words = ("--key", "args.item", "--concurrency", "2", "--rate", "100/minute", "--burst", "5")
    done = sandbox("limit", "set", "partner", *words, "--for", "a:b:concurrency=9", "--for", "c:rate=1/second,burst=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\t")[:3] == [
        "partner",
        "2 at once; 100/minute, 5 at first; 2 keys otherwise",
        "args.item",
    ]
    [listed] = map(json.loads, sandbox("limit", "list", "--json").stdout.splitlines())
    assert listed["overrides"] == {"a:b": {"concurrency": 9}, "c": {"rate": "1/second", "burst": 2}}
    assert sandbox("limit", "list").stdout == done.stdout
    assert json.loads(sandbox("limit", "remove", "partner", "--json").stdout)["set"] is False
    assert sandbox("limit", "list").stdout == ""
    assert sandbox("limit", "remove", "partner").returncode == 5


def test_a_limit_that_says_nothing_is_wrong_usage(sandbox: Command) -> None:
    assert sandbox("limit", "set", "partner").returncode == 2
    assert sandbox("limit", "set", "partner", "--concurrency", "1", "--for", "acme").returncode == 2
