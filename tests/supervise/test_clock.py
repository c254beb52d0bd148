"""Somebody puts the clock back while circusd runs."""

import subprocess
import sys

import pytest

OURS = "from service.supervise import private_names as names; names.replace(names.CIRCUS)"
OF_WORKSPACES = """
import sys
from service.workspaces import second_circusd
second_circusd.circusd.main = lambda: None
sys.argv[1:] = [sys.argv[1] + "/circus.ini"]
second_circusd.main()
"""
LOOKS = """

import asyncio, time
from circus.util import AsyncPeriodicCallback

async def look():
    looked = asyncio.Semaphore(0)
    looks = AsyncPeriodicCallback(looked.release, 10)
    looks.start()
    await looked.acquire()
    now = time.time
    time.time = lambda: now() - 3600
    for _ in range(3):
        await asyncio.wait_for(looked.acquire(), 30)

asyncio.run(look())
"""


@pytest.mark.parametrize("begin", [OURS, OF_WORKSPACES], ids=["service", "workspaces"])
def test_circusd_looks_after_its_processes_though_the_clock_is_put_back(begin: str, tmp_path: object) -> None:
    ended = subprocess.run([sys.executable, "-c", begin + LOOKS, str(tmp_path)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
