"""Makes the half of sandbox_client without async from the other one: the same without `await`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent / "sandbox_client"
MADE: Final = {"async_client.py": "client.py", "async_operating.py": "operating.py"}
HEAD: Final = '"""Made from `{source}` by `make client`. Do not change it here."""'

WORDS: Final = {
    r"async (def|for|with) ": r"\1 ",
    r"\bawait ": "",
    r"\b__aenter__\b": "__enter__",
    r"\b__aexit__\b": "__exit__",
    r"\baclose\b": "close",
    r"\baread\b": "read",
    r"\baiter_bytes\b": "iter_bytes",
    r"\bsleep_async\b": "sleep",
    r"\bAsync([A-Z]\w+)": r"\1",
    r"\basync_(\w+) import": r"\1 import",
}


def made(source: str) -> str:
    text = (PACKAGE / source).read_text()
    for word, replacement in WORDS.items():
        text = re.sub(word, replacement, text)
    text = re.sub(r'\A""".*?"""', HEAD.format(source=source), text, flags=re.DOTALL)
    return ruff(ruff(text, "check", "--select", "I", "--fix"), "format")


def ruff(text: str, *words: str) -> str:
    command = [sys.executable, "-m", "ruff", *words, "--quiet", "--stdin-filename", str(PACKAGE / "client.py"), "-"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    for source, target in MADE.items():
        (PACKAGE / target).write_text(made(source))
