"""A role and a schema in a real Postgres."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.workspaces import dotenv
from service.workspaces.postgres import Postgres, PostgresFailed
from tests.servers import eventually, free_port
from tests.workspaces.test_mirror import Speaker
from tests.workspaces.yard import EMAIL, SLUG, Yard

BUSY = "select count(*) from pg_stat_activity where usename = '{slug}' and wait_event = 'PgSleep'"
PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def unprivileged(words: list[str]) -> list[str]:
    """Postgres refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words] if os.geteuid() == 0 else words


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if PROGRAMS is None:
        pytest.skip("Postgres is not installed; `apt-get install postgresql` does it")
    folder = Path("/tmp") / f"sandbox-postgres-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, port = folder / "data", free_port()
    (folder / "password").write_text("se@cret")
    (folder / "password").chmod(0o644)
    words = [str(PROGRAMS / "initdb"), "-D", str(data), "-U", "admin", "-A", "scram-sha-256", "--no-sync"]
    initialised = unprivileged([*words, f"--pwfile={folder / 'password'}"])
    subprocess.run(initialised, check=True, capture_output=True, cwd=folder)
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        words = unprivileged([str(PROGRAMS / "postgres"), "-D", str(data), *options])
        server = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    made = Postgres(f"postgresql://admin:se%40cret@127.0.0.1:{port}/postgres")
    eventually(lambda: asked(made.url, "select 1").returncode == 0, 60)
    yield made
    server.terminate()
    server.wait(20)
    shutil.rmtree(folder)


def asked(url: str, statement: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["psql", "-XtAc", statement, url], capture_output=True, text=True, check=False)


def test_a_workspace_has_a_schema_of_its_own_and_no_other(postgres: Postgres) -> None:
    told, neighbour = Speaker(), "w-al-aaaaaaaa"
    for slug in (SLUG, neighbour):
        assert not postgres.is_there(told, slug)
        for _ in range(2):
            postgres.make(told, slug)
        assert postgres.is_there(told, slug)
    url = postgres.url_with(told, SLUG, "one")
    assert asked(url, "create table ware (name text); select current_schema()").stdout.endswith(f"{SLUG}\n")
    assert "permission denied" in asked(url, f'create table "{neighbour}".mine (name text)').stderr
    assert "permission denied" in asked(url, "create role mine").stderr
    postgres.url_with(told, SLUG, "another")
    assert "authentication failed" in asked(url, "select 1").stderr

    for _ in range(2):
        postgres.remove(told, SLUG)
    assert not postgres.is_there(told, SLUG) and postgres.is_there(told, neighbour)
    postgres.remove(told, neighbour)


def test_a_statement_that_lasts_keeps_no_workspace_from_going(postgres: Postgres) -> None:
    told = Speaker()
    postgres.make(told, SLUG)
    url = postgres.url_with(told, SLUG, "one")
    asked(url, "create table ware (name text)")
    words = ["psql", "-XtAc", "begin; lock table ware; select pg_sleep(600)", url]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as lasting:
        try:
            eventually(lambda: asked(postgres.url, BUSY.format(slug=SLUG)).stdout.strip() == "1", 30)
            postgres.remove(told, SLUG)
            assert lasting.wait(60) != 0
        finally:
            lasting.kill()


def test_a_wrong_password_is_told_without_it(postgres: Postgres) -> None:
    with pytest.raises(PostgresFailed, match="authentication failed") as refused:
        Postgres(postgres.url.replace("se%40cret", "wrong-one")).make(Speaker(), SLUG)
    assert "wrong-one" not in str(refused.value)


@pytest.mark.slow
def test_a_workspace_gets_its_address_and_leaves_nothing(postgres: Postgres, small: Yard) -> None:
    small.plan = small.planned(database=postgres.url, postgres=postgres)
    small.done("create", email=EMAIL)
    url = dotenv.read(small.home().env.read_text())["DATABASE_URL"]
    assert asked(url, "select current_user").stdout.strip() == SLUG
    [password] = small.places.records.glob(".*.password")
    assert password.stat().st_mode & 0o777 == 0o600
    small.push(EMAIL, "text", "newer")
    small.done("update", slug=SLUG)
    assert asked(url, "select current_user").stdout.strip() == SLUG  # what ran before has this address
    small.done("delete", slug=SLUG)
    assert not postgres.is_there(Speaker(), SLUG)
    assert not password.exists()
