"""An AsyncClient that a test without `async` can call: what a Client is shown to do, it is shown to do as well."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

from sandbox_client import AsyncClient, AsyncTask, AsyncWorkspace


class Blocking:
    def __init__(self, wrapped: Any, runner: asyncio.Runner) -> None:
        self._wrapped = wrapped
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return self._blocking(found) if inspect.ismethod(found) else found

    def _blocking(self, method: Any) -> Any:
        def call(*words: Any, **options: Any) -> Any:
            made = method(*words, **options)
            return self._each(made) if inspect.isasyncgen(made) else self._shown(self._runner.run(made))

        return call

    def _each(self, made: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._shown(self._runner.run(anext(made)))
            except StopAsyncIteration:
                return

    def _shown(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._shown(each) for each in value]
        return Blocking(value, self._runner) if isinstance(value, AsyncClient | AsyncTask | AsyncWorkspace) else value
