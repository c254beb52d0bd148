import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import needs_namespaces
from tests.workspaces.steward.stage import StewardHost


@pytest.fixture(scope="package")
def host() -> Iterator[StewardHost]:
    needs_namespaces()
    with tempfile.TemporaryDirectory(prefix="sandbox-steward-") as folder:
        key = Path(folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        made = StewardHost(Path(folder))
        try:
            yield made.start(key)
        finally:
            made.end()
