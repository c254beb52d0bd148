"""deploy.toml and a stage's file: what is taken, and what is said of what is wrong."""

import re
from pathlib import Path

import pytest

from rollout import stage
from rollout.errors import UsageError
from tests.system.instance import ROOT

GOOD = """
hosts = ["root@a.example.com", "b:2222"]
domain = "sandbox.example.com"
certificate = "/c.pem"
certificate_key = "/k.pem"
"""


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    (tmp_path / "stages").mkdir()
    (tmp_path / "deploy.toml").write_text('keep = 7\n[environment]\nA = "1"\nB = "1"\n')
    (tmp_path / "stages" / "qa.toml").write_text(GOOD)
    return tmp_path


def test_a_stage_is_its_own_file_over_the_common_one(deploy: Path) -> None:
    (deploy / "stages" / "qa.toml").write_text(f'parallel = 2\n{GOOD}\n[environment]\nB = "2"\n')
    read = stage.read(deploy, "qa")
    assert (read.hosts, read.keep, read.parallel) == (("root@a.example.com", "b:2222"), 7, 2)
    assert read.environment == {"A": "1", "B": "2"}
    assert (read.ref, read.on_failure, read.verify_seconds) == ("main", "all", 5)


@pytest.mark.parametrize("name", stage.names(ROOT / "deploy"))
def test_the_stages_that_come_with_the_project_can_be_read(name: str) -> None:
    assert stage.read(ROOT / "deploy", name).name == name


def test_the_stages_are_the_ones_that_were_promised() -> None:
    assert {"production", "staging", "qa", "dev"} <= set(stage.names(ROOT / "deploy"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('host = "a"', "there is no key host; there are hosts, "),
        ("hosts = []", "hosts is []; allowed is a list of hosts"),
        ('hosts = ["-oProxyCommand=x y"]', "allowed is a list of hosts"),
        ('hosts = ["a", "a"]', "allowed is a list of hosts"),
        ("keep = 0", "keep is 0; allowed is a number of good releases from 1 to 100."),
        ("keep = true", "keep is True; allowed is a number"),
        ('parallel = "1"', "parallel is '1'; allowed is a number"),
        ('on_failure = "none"', """on_failure is 'none'; allowed is "all" or "stop"."""),
        ('ref = "--upload-pack=x"', "allowed is a branch, a tag or a commit"),
        ('certificate = "c.pem"', "allowed is an absolute path on the hosts"),
        ('balancers = "10.0.0.7"', "allowed is a list of IP addresses and networks"),
        ('balancers = ["10.0.0.7", "10.0.0.7"]', "allowed is a list of IP addresses and networks"),
        ('balancers = ["10.0.0.7/8"]', "allowed is a list of IP addresses and networks"),
        ('balancers = [""]', "allowed is a list of IP addresses and networks"),
        ("balancers = [7]", "allowed is a list of IP addresses and networks"),
        ("requests_per_second = 0", "requests_per_second is 0; allowed is a whole number from 1 to 1000000"),
        ("requests_burst = -1", "requests_burst is -1; allowed is a whole number from 0 to 1000000"),
        ("connections = 1.5", "connections is 1.5; allowed is a whole number from 1 to 65535"),
        ("""environment = {A = "it's"}""", "allowed is names of variables"),
        ("environment = {a = 1}", "allowed is names of variables"),
        ("keep =", "cannot be read: "),
    ],
)
@pytest.mark.parametrize("file", ["deploy.toml", "stages/qa.toml"])
def test_what_is_wrong_is_named_with_its_file(file: str, line: str, said: str, deploy: Path) -> None:
    (deploy / file).write_text(line + "\n")
    with pytest.raises(UsageError, match=rf"^{re.escape(str(deploy / file))}:? .*{re.escape(said)}"):
        stage.read(deploy, "qa")


def test_a_key_that_is_missing_is_named(deploy: Path) -> None:
    (deploy / "stages" / "qa.toml").write_text('domain = "x"')
    with pytest.raises(UsageError, match=r"qa\.toml: hosts is missing; it is a list of hosts"):
        stage.read(deploy, "qa")
