"""`circusctl reload`, for one watcher or all, and HUP to circusd, which reloads all.

The answer is sent when the outcome is known. circusctl counts its time-out from the last message that it has
received, so until then it gets one twice a second that says `waiting`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from circus import logger
from circus.commands.reload import Reload as StockReload
from circus.exc import MessageError
from tornado import gen

from service.supervise.reload.release import Supervisor
from service.supervise.watcher import GatedWatcher, ReleaseRefused

TELL_SECONDS: Final = 0.5


def dispatch(stock: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Is given what it replaces in circus, and returns what takes its place (private_names.py)."""

    def dispatch(controller: Any, job: tuple[Any, bytes]) -> None:
        """A command knows who asks: a client, or None for a signal."""
        controller.asking = job[0]
        stock(controller, job)

    return dispatch


class Reload(StockReload):  # type: ignore[misc]
    """\
    Boots the release that SANDBOX_RELEASE names beside the running one, and swaps them when it is ready
    """

    supervisor: Supervisor
    _busy: str | None = None

    def execute(self, arbiter: Any, props: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        try:
            return self._begin(arbiter, props)
        except MessageError as error:
            if arbiter.ctrl.asking is None:
                logger.warning("HUP is not obeyed: %s", error)
            raise

    def _begin(self, arbiter: Any, props: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        if not props.get("graceful", True):
            raise MessageError("a reload ends nothing before its time; `circusctl restart` does")
        if arbiter._stopping:
            raise MessageError("the service is stopping")
        if Reload._busy is not None:
            raise MessageError(f"a reload of {Reload._busy} is under way; wait for its outcome")
        watchers = self._watchers(arbiter, props.get("name"))
        if not watchers:
            raise MessageError("nothing is running that could be reloaded")
        props["waiting"] = True
        reloading = asyncio.ensure_future(self._reload_all(watchers))
        Reload._busy = " and ".join(watcher.name for watcher in watchers)
        reloading.add_done_callback(self._is_over)
        arbiter.loop.spawn_callback(self._keep_waiting, arbiter.ctrl, arbiter.ctrl.asking, reloading)
        return reloading

    def _watchers(self, arbiter: Any, name: str | None) -> list[GatedWatcher]:
        if name is not None:
            return [self._get_watcher(arbiter, name)]
        return [watcher for watcher in arbiter.iter_watchers() if watcher.release and watcher.is_serving]

    @staticmethod
    def _is_over(_: object) -> None:
        Reload._busy = None

    async def _reload_all(self, watchers: list[GatedWatcher]) -> dict[str, Any]:
        """In turn, and no further than to the first that is refused."""
        reloaded: dict[str, Any] = {}
        try:
            candidates = [watcher.candidate() for watcher in watchers]
            for watcher, release in zip(watchers, candidates, strict=True):
                reloaded[watcher.name] = await watcher.swap(release)
        except Exception as error:
            refused = error if isinstance(error, ReleaseRefused) else _unforeseen(error)
            return {**refused.details, "status": "error", "reason": _told(refused, reloaded), "reloaded": reloaded}
        return {"reloaded": reloaded, **self._wish(candidates)}

    def _wish(self, releases: list[Any]) -> dict[str, str]:
        if not releases or not (differences := self.supervisor.differences(releases[-1])):
            return {}
        wish = f"circusd itself wants a restart: it was started with another {', '.join(differences)}"
        logger.warning(wish)
        return {"circusd": wish}

    @staticmethod
    async def _keep_waiting(controller: Any, client: Any, reloading: "asyncio.Future[Any]") -> None:
        while not reloading.done():
            controller.send_response(None, client, b"", {"status": "waiting"})
            await gen.sleep(TELL_SECONDS)


def _unforeseen(error: Exception) -> ReleaseRefused:
    logger.error("the reload has failed", exc_info=error)
    return ReleaseRefused(f"the reload has failed: {error!r}. circus.log says where.")


def _told(error: ReleaseRefused, reloaded: dict[str, Any]) -> str:
    before = f"{' and '.join(reloaded)} had been reloaded before." if reloaded else ""
    said, *printed = error.whole.split("\n")
    return "\n".join(filter(None, (said, before, *printed)))
