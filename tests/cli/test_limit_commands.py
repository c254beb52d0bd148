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
    shown = sandbox("limit", "show", "partner").stdout
    assert shown.startswith("limit\tpartner\nis\t2 at once; 100/minute, 5 at first\nkey\targs.item\n")
    assert shown.endswith("of a:b\t9 at once\nof c\t1/second, 2 at first\n")
    assert json.loads(sandbox("limit", "show", "partner", "--json").stdout) == listed
    assert json.loads(sandbox("limit", "remove", "partner", "--json").stdout)["set"] is False
    assert sandbox("limit", "list").stdout == ""
    assert sandbox("limit", "remove", "partner").returncode == 5
    assert sandbox("limit", "show", "partner").returncode == 5


def test_a_limit_that_says_nothing_is_wrong_usage(sandbox: Command) -> None:
    assert sandbox("limit", "set", "partner").returncode == 2
    assert sandbox("limit", "set", "partner", "--concurrency", "1", "--for", "acme").returncode == 2
    for words in (("--rate", "fast"), ("--key", "args.a", "--rate", "1/day", "--for", "b:rate=fast")):
        refused = sandbox("limit", "set", "partner", *words)
        assert (refused.returncode, "as in 100/minute" in refused.stderr) == (2, True)
    assert "as in args.customer" in sandbox("limit", "set", "partner", "--key", "a", "--rate", "1/day").stderr
