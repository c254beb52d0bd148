"""A schema and a role in the team's Postgres for each workspace, made and removed with psql.

The administrator's credential is given to psql in its environment, statements on its standard input: no list of
processes shows them. A role's password stands beside the workspace's record and in its .env; it stays the same,
so that what runs can go on to connect.
"""

import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from service.errors import SandboxError
from service.workspaces.hands import Speaker

SECONDS: Final = 120.0
MAKE: Final = """
do $$ begin
    if not exists (select from pg_roles where rolname = '{slug}') then create role "{slug}" login; end if;
end $$;
alter role "{slug}" set search_path = "{slug}";
create schema if not exists "{slug}" authorization "{slug}";
"""
PASSWORD: Final = """alter role "{slug}" login password '{password}';"""
END: Final = """
do $$ begin
    if exists (select from pg_roles where rolname = '{slug}') then alter role "{slug}" nologin; end if;
end $$;
"""
REMOVE: Final = """
set client_min_messages = warning;
select pg_terminate_backend(pid) from pg_stat_activity where usename = '{slug}';
drop schema if exists "{slug}" cascade;
do $$ begin
    if exists (select from pg_roles where rolname = '{slug}') then
        drop owned by "{slug}" cascade;
        drop role "{slug}";
    end if;
end $$;
"""
THERE: Final = """
select (select count(*) from pg_roles where rolname = '{slug}')
    || ' ' || (select count(*) from pg_namespace where nspname = '{slug}');
"""


class PostgresFailed(SandboxError):
    """Postgres, or psql, did not do what was asked; the message has its words."""


@dataclass(frozen=True)
class Postgres:
    """`url` is the administrator's: of one who may create roles, and schemas in that database."""

    url: str

    def is_there(self, speaker: Speaker, slug: str) -> bool:
        return self._said(speaker, THERE, slug=slug) == "1 1"

    def make(self, speaker: Speaker, slug: str) -> None:
        self._said(speaker, MAKE, slug=slug)

    def url_with(self, speaker: Speaker, slug: str, password: str) -> str:
        """The workspace's own. From now on its role has this password."""
        self._said(speaker, PASSWORD, slug=slug, password=password)
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"postgresql://{quote(slug)}:{password}@{host}{parts.path}"

    def remove(self, speaker: Speaker, slug: str) -> None:
        """Nobody logs in as the role any more, then its statements end: the schema waits for none."""
        self._said(speaker, END, slug=slug)
        self._said(speaker, REMOVE, slug=slug)
        if self._said(speaker, THERE, slug=slug) != "0 0":
            raise PostgresFailed(f"the role or the schema {slug} is still there")

    def _said(self, speaker: Speaker, statements: str, **names: str) -> str:
        """Slugs and passwords hold nothing that would have to be quoted."""
        words = ["psql", "-X", "-q", "-t", "-A", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        text = statements.format(**names).strip()
        done = speaker.run(words, input=text, env=self._environment(), timeout=SECONDS, cwd="/")
        if done.returncode:
            raise PostgresFailed(f"Postgres: {done.stdout.strip()[-1000:]}")
        return str(done.stdout).strip()

    def _environment(self) -> dict[str, str]:
        parts = urlsplit(self.url)
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "PGHOST": parts.hostname or "",
            "PGPORT": str(parts.port or 5432),
            "PGUSER": unquote(parts.username or ""),
            "PGPASSWORD": unquote(parts.password or ""),
            "PGDATABASE": parts.path.lstrip("/"),
            "PGCONNECT_TIMEOUT": "20",
        }
