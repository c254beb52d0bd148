"""What type checkers see of the client in a program of its user's."""

from pathlib import Path

from tests.test_names import checked

USED_WELL = """
import asyncio
from datetime import datetime, timedelta

from sandbox_client import AsyncClient, Client, Invalid, NewTask, SandboxError, Task
from sandbox_client.testing import FakeSandbox


def use(sandbox: Client) -> Task:
    task = sandbox.create("report.build", {"queue": 1}, month="May", delay=timedelta(hours=1))
    made: datetime = task.created_at
    due: datetime | None = task.run_at
    message: str = task.error.message if task.error else task.status
    new: list[NewTask] = [{"type": "report.build", "args": {"month": message}, "run_at": made}]
    ends: list[datetime | None] = [each.finished_at for each in sandbox.create_many(new)]
    for old in sandbox.tasks(status="failed"):
        uid: str = old.retry().wait(timeout=1.5).uid
    try:
        return sandbox.get("a").cancel()
    except Invalid as error:
        field: str | None = error.field
        raise
    except SandboxError as error:
        status: int | None = error.status
        raise


async def use_async(sandbox: AsyncClient) -> list[str]:
    task = await (await sandbox.create("report.build")).wait()
    return [each.uid async for each in sandbox.tasks(type=task.type)]


fake = FakeSandbox({"report.build": lambda month: 1, "other": None})
use(fake.client())
asyncio.run(use_async(fake.async_client()))
"""

USED_BADLY = """
from sandbox_client import Client

sandbox = Client(8000)
moment: str = sandbox.create("a").created_at
sandbox.create_many([{"args": {}}])
sandbox.tasks(nonsense="a")
"""


def test_a_program_that_uses_it_well_is_right(tmp_path: Path) -> None:
    assert checked(tmp_path, USED_WELL) == []


def test_each_mistake_is_named(tmp_path: Path) -> None:
    errors = [line for line in checked(tmp_path, USED_BADLY) if ": error: " in line]
    assert [line.split(":")[1] for line in errors] == ["4", "5", "6", "7"]
