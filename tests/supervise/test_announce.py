"""Who tells that the service is ready asks it, and does not make a nuisance of itself."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import settings
from service.supervise.reload import candidate
from service.supervise.start import announce
from tests.http_server import Handler, HttpServer


class Service(HttpServer):
    """It is ready when it is asked for the third time."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []
        service = self

        class Answer(Handler):
            def do_GET(self) -> None:
                service.asked_at.append(time.monotonic())
                self.send_response(200 if len(service.asked_at) == 3 else 503)
                self.end_headers()

        super().__init__(Answer)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def test_when_it_has_complained_it_asks_now_and_then_until_the_service_is_ready(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(announce, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(announce, "LATER_SECONDS", 0.5)
    read = settings.read({"SANDBOX_PORT": str(service.port), "SANDBOX_HOME": str(tmp_path)})
    read.sockets.mkdir()
    (read.sockets / candidate.SERVED).touch()
    announce._announce(read, os.getppid())
    first, second, third = service.asked_at
    assert second - first >= 0.5 and third - second >= 0.5
    said = capsys.readouterr().out
    assert said.count("sandbox is not ready after 0 s") == 1 and "listens on" in said


def test_another_service_at_the_same_address_is_not_taken_for_this_one(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(announce, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(announce, "LATER_SECONDS", 0.1)
    service.asked_at += [0.0, 0.0]
    read = settings.read({"SANDBOX_PORT": str(service.port), "SANDBOX_HOME": str(tmp_path)})
    supervisors = iter([os.getppid()] * 3)
    monkeypatch.setattr(os, "getppid", lambda: next(supervisors, 0))
    announce._announce(read, os.getppid())
    said = capsys.readouterr().out
    assert "listens on" not in said and "another service answers at" in said


def test_it_ends_with_its_supervisor(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "PATIENCE_SECONDS", 0)
    announce._announce(settings.read({"SANDBOX_PORT": str(service.port)}), supervisor=0)
    assert service.asked_at == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "  page     http://127.0.0.1:8000/ui\n"),
        ({"SANDBOX_BIND": "0.0.0.0", "SANDBOX_PORT": "81"}, "  page     http://127.0.0.1:81/ui\n"),
        ({"SANDBOX_BIND": "::1"}, "  page     http://[::1]:8000/ui\n"),
    ],
)
def test_the_welcome_says_where_the_page_is(given: dict[str, str], told: str) -> None:
    assert told in announce._welcome(settings.read(given))


def test_behind_a_unix_socket_the_welcome_names_no_page() -> None:
    assert "/ui" not in announce._welcome(settings.read({"SANDBOX_BIND": "unix:/run/web.sock"}))


def test_what_fails_is_told_without_the_advice_for_clients() -> None:
    body = b"""{"detail": "Redis does not accept the password in REDIS_URL; send the same request again later",
               "failing": {"redis": "Redis does not accept the password in REDIS_URL"}}"""
    assert announce._detail(503, body) == "Redis does not accept the password in REDIS_URL"
    assert announce._detail(503, b"busy") == "/health/ready answers 503"
