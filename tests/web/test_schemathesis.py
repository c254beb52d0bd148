"""Requests that nobody would think of, right and wrong, made from the service's own description of itself."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.web.conftest import WebServer

# They are one view with `/start`.
SAME = [f"/workspaces/{{slug}}/{action}" for action in ("stop", "restart", "update", "test")]


def test_no_input_brings_forth_a_fault(make_server: Callable[..., WebServer], tmp_path: Path) -> None:
    server = make_server(SANDBOX_WORKSPACE_GIT=str(tmp_path / "origin.git")).start()
    description = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [each for each in description.get_all_operations() if each.ok().path not in SAME]
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with suppress(Unsatisfiable):  # a call without parameters cannot be made wrongly
                _try(operation.ok(), mode)


def _of_runners(case: Any, answer: Any) -> list[Any]:
    """No runner is at work here, and so the service is not ready."""
    return [not_a_server_error] if (case.path, answer.status_code) == ("/health/ready", 503) else []


def _try(operation: Any, mode: GenerationMode) -> None:
    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Any) -> None:
        case.headers.pop("Prefer", None)  # nobody will finish the task
        # What one type wants of its arguments, or one parameter of another, is not in the description.
        answer = case.call(timeout=10)
        if answer.status_code not in (413, 414):  # a wrong batch may be too large as well, a wrong query too long
            case.validate_response(answer, excluded_checks=[positive_data_acceptance, *_of_runners(case, answer)])

    each()
