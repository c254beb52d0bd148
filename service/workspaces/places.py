"""Where everything of the workspaces lies. The standard library alone: the steward uses a copy of this file."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """One workspace's folder."""

    path: Path

    @property
    def code(self) -> Path:
        return self.path / "code"

    @property
    def venvs(self) -> Path:
        return self.path / "venvs"

    @property
    def venv(self) -> Path:
        """A link to the virtualenv in use."""
        return self.path / "venv"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def database(self) -> Path:
        return self.data / "database.sqlite3"

    @property
    def static(self) -> Path:
        return self.data / "static"

    @property
    def env(self) -> Path:
        return self.path / ".env"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def media(self) -> Path:
        """A link to the one folder that all share."""
        return self.path / "media"


@dataclass(frozen=True)
class Places:
    root: Path
    shared_media: Path

    @classmethod
    def under(cls, root: Path, media: Path | None = None) -> "Places":
        return cls(root, media or root / "media")

    @property
    def records(self) -> Path:
        return self.root / "records"

    @property
    def mirror(self) -> Path:
        return self.root / "mirror.git"

    @property
    def sockets(self) -> Path:
        """No workspace can write here: a socket of one cannot become a link to another's."""
        return self.root / "sockets"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def pages(self) -> Path:
        """What nginx shows of a workspace that does not answer."""
        return self.root / "pages"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def database(self) -> Path:
        """The one that workspaces get a copy of, or share."""
        return self.root / "database.sqlite3"

    @property
    def homes(self) -> Path:
        return self.root / "w"

    def home(self, slug: str) -> Home:
        return Home(self.homes / slug)

    def socket(self, slug: str) -> Path:
        return self.sockets / f"{slug}.sock"
