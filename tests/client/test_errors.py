"""What of the service becomes which exception."""

import asyncio
import os
import re
from collections.abc import Iterator

import pytest

import sandbox_client
from sandbox_client import Client, ProblemError, SandboxError, Task, UnexpectedAnswer, Unreachable, errors
from tests.client.scripted import Answer, Server, serving
from tests.system.instance import ROOT, Instance


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def documented() -> set[int]:
    """The statuses of errors that the page of the interface names."""
    return {int(text) for text in re.findall(r"`([45]\d\d)`", (ROOT / "docs" / "http.md").read_text())}


def test_each_error_of_the_interface_has_its_exception(running: Instance) -> None:
    _, description = running.call("GET", "/openapi.json")
    described = {
        int(status)
        for path in description["paths"].values()
        for call in path.values()
        for status in call["responses"]
        if status[0] in "45"
    }
    assert len(documented()) > 10 and len(described) > 8
    assert documented() | described <= errors.BY_STATUS.keys()


def test_all_have_one_base_and_are_public() -> None:
    made = {name: each for name, each in vars(errors).items() if getattr(each, "__module__", "") == errors.__name__}
    assert all(issubclass(each, SandboxError) for each in made.values())
    assert made.keys() <= {*sandbox_client.__all__}
    assert all(each.__doc__ for each in made.values())


@pytest.mark.parametrize("status", [*errors.BY_STATUS, 418, 507])
def test_an_exception_has_the_status_the_problem_and_the_request(server: Server, status: int) -> None:
    body = b'{"type": "about:blank", "status": %d, "detail": "do it so", "more": [1]}' % status
    server.answers = [Answer(status, body, {"X-Request-ID": "r-1"})]
    with Client(server.url, retry_for=0) as sandbox, pytest.raises(ProblemError) as raised:
        sandbox.get("a")
    error = raised.value
    assert type(error) is errors.BY_STATUS.get(status, ProblemError)
    assert (error.status, error.request_id, error.detail) == (status, "r-1", "do it so")
    assert error.problem == {"type": "about:blank", "status": status, "detail": "do it so", "more": [1]}
    assert str(error) == f"{status}: do it so (request r-1)"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 100_000])
def test_what_a_proxy_answers_becomes_a_problem(server: Server, body: bytes) -> None:
    server.answers = [Answer(502, body)]
    with Client(server.url, retry_for=0) as sandbox, pytest.raises(ProblemError) as raised:
        sandbox.get("a")
    assert raised.value.problem == {"type": "about:blank", "title": "Bad Gateway", "status": 502}
    assert raised.value.detail == "Bad Gateway"
    assert raised.value.request_id == server.asked[0].headers["X-Request-ID"]


@pytest.mark.parametrize("answer", [Answer(200, b"<html>"), Answer(200, b"[]"), Answer(204), Answer(302)])
def test_what_is_no_sandbox_is_named(server: Server, answer: Answer) -> None:
    server.answers = [answer]
    with Client(server.url) as sandbox, pytest.raises(UnexpectedAnswer, match="SANDBOX_URL") as raised:
        sandbox.types()
    assert raised.value.status == answer.status


def test_an_answer_that_cannot_be_unpacked_is_none(server: Server) -> None:
    server.answers = [Answer(200, b"{}", {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"})]
    with Client(server.url, retry_for=0) as sandbox:
        with pytest.raises(Unreachable, match="decompressing"):
            sandbox.get("a")
        with pytest.raises(Unreachable, match="decompressing"):
            list(Task(sandbox, {"uid": "a"}).events())


def test_a_forked_process_asks_on_a_connection_of_its_own(server: Server) -> None:
    server.answers = [Answer(200)]
    with Client(server.url) as sandbox:
        sandbox.ready()
        child = os.fork()
        if child == 0:
            sandbox.ready()
            os._exit(0)
        os.waitpid(child, 0)
        sandbox.ready()
    assert len(server.asked) == 3 and len({asked.port for asked in server.asked}) == 2


def test_a_cancelled_wait_of_asyncio_ends(running: Instance) -> None:
    async def give_up() -> None:
        async with sandbox_client.AsyncClient(f"http://127.0.0.1:{running.port}") as sandbox:
            task = await sandbox.create("echo", delay=3600)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task.wait(), 0.2)
            assert (await task.cancel()).status == "cancelled"

    asyncio.run(give_up())


def test_a_deletion_that_is_answered_with_nothing_is_done(server: Server) -> None:
    server.answers = [Answer(204)]
    with Client(server.url) as sandbox:
        sandbox.delete_schedule("nightly")
