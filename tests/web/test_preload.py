"""What gunicorn's arbiter imports for its workers is imported before gevent replaces the standard library in them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOOK = """
import json, runpy, sys, threading
configuration = runpy.run_path("conf/gunicorn.py")
known = set(sys.modules)
configuration["_import_the_application"]()
assert threading.active_count() == 1
from gevent import monkey
assert not monkey.saved, "patched too early"
monkey.patch_all()
replaced = {id(it) for names in monkey.saved.values() for it in names.values() if callable(it)}
held = [
    f"{name}.{word}"
    for name in set(sys.modules) - known if not name.startswith("gevent")
    for word, it in vars(sys.modules[name]).items() if id(it) in replaced
]
print(json.dumps(sorted(held)))
"""

HARMLESS = {
    "asyncio.base_futures.get_ident",
    "click.globals.local",
    "jinja2.utils.Lock",  # of its caches: nobody waits while holding it
    "redis.asyncio.connection.SSLContext",
    "redis.connection.LifoQueue",  # of its pools, which are not used
    "redis.retry.sleep",  # no retries are asked of it
    "werkzeug.routing.map.Lock",  # held while rules are sorted
}


def test_nothing_of_it_blocks_a_worker(tmp_path: Path) -> None:
    environment = {**os.environ, "SANDBOX_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert set(json.loads(done.stdout)) <= HARMLESS
