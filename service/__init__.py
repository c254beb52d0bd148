"""sandbox: tasks over HTTP, kept in Redis, executed by runners."""

__version__ = "0.1.0"
