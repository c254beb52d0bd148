"""The image and docker-compose.yml: what they are made of, and the image's steps, done by hand."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from rollout import templates
from service import settings
from tests.deploy.image import Builder, Instruction, context_of, instructions
from tests.servers import BUSY, eventually
from tests.system.instance import ROOT

FOLDER = ROOT / "deploy" / "container"
DOCKERFILE = FOLDER / "Dockerfile"
COMPOSE = FOLDER / "docker-compose.yml"
TASK = '{"type": "echo", "args": {"message": "hello"}}'


def of(name: str) -> list[Instruction]:
    return [instruction for instruction in instructions(DOCKERFILE.read_text()) if instruction.name == name]


# --- the Dockerfile -----------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    words = [Path(sys.executable).with_name("hadolint"), "--no-color", DOCKERFILE]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_wheels_are_built_in_one_image_and_only_what_is_installed_is_carried_into_the_last() -> None:
    assert [instruction.text.partition(" AS ")[2] for instruction in of("FROM")] == ["wheels", "installed", ""]
    last = DOCKERFILE.read_text().rpartition("FROM ")[2]
    assert [one.text for one in instructions(f"FROM {last}") if one.name == "COPY"] == [
        "--from=installed /opt/sandbox /opt/sandbox"
    ]
    installs = [one.text for one in of("RUN") if "pip install" in one.text]
    assert len(installs) == 1 and "--no-index" in installs[0]


def test_every_base_image_has_a_version() -> None:
    for instruction in of("FROM"):
        assert re.match(r"python:\$\{PYTHON\}-", instruction.text)
    assert re.fullmatch(r"PYTHON=3\.\d+", of("ARG")[0].text)


def test_nothing_runs_as_root_or_in_a_shell() -> None:
    assert DOCKERFILE.read_text().rindex("\nUSER ") > DOCKERFILE.read_text().rindex("\nRUN ")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", of("USER")[-1].text)
    assert of("ENTRYPOINT")[0].array + of("CMD")[0].array == ["sandbox", "run"]
    assert json.loads(of("HEALTHCHECK")[0].text.partition("CMD ")[2]) == ["sandbox", "ready"]
    assert of("STOPSIGNAL")[0].text == "SIGTERM"


def test_what_is_copied_is_what_is_sent_to_the_engine(tmp_path: Path) -> None:
    context_of(ROOT, (FOLDER / "Dockerfile.dockerignore").read_text(), tmp_path / "context")
    copied = {name for one in of("COPY") if "--from" not in one.text for name in one.words[:-1]}
    assert {path.name for path in (tmp_path / "context").iterdir()} == copied
    assert not list((tmp_path / "context").rglob("__pycache__"))


# --- docker-compose.yml -------------------------------------------------------------------------------


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def test_it_is_as_the_schema_of_compose_has_it(compose: dict[str, Any]) -> None:
    schema = jsonschema_rs.validator_for(
        json.loads((Path(__file__).parent / "compose-spec" / "schema.json").read_text())
    )
    assert [f"{error.instance_path}: {error.message}" for error in schema.iter_errors(compose)] == []
    compose["services"]["redis"]["stop_grace"] = compose["services"]["redis"].pop("stop_grace_period")
    assert "stop_grace" in "".join(error.message for error in schema.iter_errors(compose))


def test_everything_is_published_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_redis_keeps_what_it_has_taken(compose: dict[str, Any]) -> None:
    words = compose["services"]["redis"]["command"]
    assert " ".join(words) == "redis-server --appendonly yes --maxmemory-policy noeviction"
    assert compose["services"]["redis"]["volumes"] == ["redis:/data"]
    assert compose["services"]["sandbox"]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_a_stop_may_take_as_long_as_the_parts_have(compose: dict[str, Any]) -> None:
    assert compose["services"]["sandbox"]["stop_grace_period"] == f"{templates.stop_seconds({})}s"


def test_the_settings_are_ones_that_the_service_takes(compose: dict[str, Any]) -> None:
    service = compose["services"]["sandbox"]
    image = dict(word.split("=", 1) for word in of("ENV")[0].words)
    given = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", text) for name, text in service["environment"].items()}
    known = {variable.name for variable in settings.VARIABLES}
    assert set(given) | set(image) - {"PATH"} <= known
    read = settings.read(image | given)
    assert not read.on_loopback and read.redis_url == "redis://redis:6379/0"
    assert str(read.tokens) == f"/run/secrets/{service['secrets'][0]}"
    assert str(read.home) == of("VOLUME")[0].text == service["volumes"][0].partition(":")[2]
    assert str(read.port) == of("EXPOSE")[0].text == service["ports"][0].rpartition(":")[2]


def test_every_volume_and_secret_is_there(compose: dict[str, Any]) -> None:
    named = [volume.partition(":")[0] for one in compose["services"].values() for volume in one.get("volumes", [])]
    assert sorted(named) == sorted(compose["volumes"])
    assert set(compose["services"]["sandbox"]["secrets"]) == set(compose["secrets"])
    ignored = (ROOT / ".gitignore").read_text().split()
    assert f"/deploy/container/{Path(compose['secrets']['sandbox_tokens']['file']).name}" in ignored


def test_the_build_finds_its_files(compose: dict[str, Any]) -> None:
    build = compose["services"]["sandbox"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]) == DOCKERFILE


# --- by hand ------------------------------------------------------------------------------------------


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    if os.geteuid() != 0:
        pytest.skip("images are built in namespaces, which takes root")
    context_of(ROOT, (FOLDER / "Dockerfile.dockerignore").read_text(), tmp_path / "context")
    with tempfile.TemporaryDirectory(prefix="sandbox-image-") as folder, contextlib.ExitStack() as stack:
        made = Builder(Path(folder), tmp_path / "context")
        stack.callback(made.end)
        yield made


@pytest.mark.slow
def test_the_image_is_built_serves_and_stops_in_order(builder: Builder, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    adds = [str(Path(sys.executable).with_name("sandbox")), "token", "add", "me", "--scope", "write"]
    environment = {**os.environ, "SANDBOX_TOKENS": str(tokens)}
    token = subprocess.run(adds, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    stage = builder.build(DOCKERFILE.read_text())
    files = {"/run/secrets/sandbox_tokens": tokens}
    container = builder.start(stage, files=files, SANDBOX_TASKS="service.builtin.demo")
    assert eventually(lambda: container.is_healthy, 60 * BUSY), container.said
    assert set(container.first.uids()) == {10001}

    sent = ("-sS", "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json")
    created = container.run("/usr/bin/curl", *sent, "-d", TASK, "http://127.0.0.1:8000/tasks")
    uid = json.loads(created.stdout)["uid"]
    waits = ("-H", "Prefer: wait=30", f"http://127.0.0.1:8000/tasks/{uid}")
    assert json.loads(container.run("/usr/bin/curl", *sent, *waits).stdout)["result"] == "hello"
    refused = container.run("/usr/bin/curl", "-sS", "http://127.0.0.1:8000/tasks")
    assert json.loads(refused.stdout)["status"] == 401

    assert container.stop(60 * BUSY) == 0, container.said
