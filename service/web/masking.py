"""What of a task's arguments and results is shown to whom.

A type names its secret arguments: `@task(…, secret=("password",))`. They stand in a task's own document for whoever
may write, and nowhere else; no search looks into them, because each guess would be answered. The page hides more than
that: page/shown.py. Of a type that this release does not know, any argument may be a secret.
"""

from collections.abc import Container, Iterable
from typing import Any, Final

import msgspec

from service.store import Filter
from service.store.selection import argument
from service.tasks.declare import ON_MANY, TaskType
from service.tasks.document import Task, public
from service.web.auth import SCOPE
from service.web.problem import wrong
from service.web.token_file import WRITE

HIDDEN: Final = "[hidden]"
_RAW_HIDDEN: Final = msgspec.Raw(msgspec.json.encode(HIDDEN))
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Every(Container[str]):
    def __contains__(self, name: object) -> bool:
        return True


EVERY: Final = _Every()


class Masking:
    def __init__(self, types: Iterable[TaskType]) -> None:
        self._secret = dict.fromkeys(ON_MANY, ()) | {task_type.name: task_type.secret for task_type in types}

    def document(self, task: Task, environ: dict[str, Any]) -> dict[str, Any]:
        """For who asks for this one task."""
        return public(task) if may_write(environ) else self.listed(task)

    def listed(self, task: Task) -> dict[str, Any]:
        """Without the secrets that the type names."""
        hidden = {"args": self.arguments(task.type, task.args)}
        if secret := self._secret.get(task.type):
            hidden["result"] = _masked(task.result, secret)
        return public(task) | hidden

    def arguments(self, type: str, args: msgspec.Raw) -> msgspec.Raw:
        """Without the secrets that the type names."""
        secret = self.secret(type)
        return _masked(args, secret) if secret else args

    def secret(self, type: str) -> Container[str]:
        """The names of its arguments that are kept from everybody's eyes; empty if none is."""
        return self._secret.get(type, EVERY)

    def searched(self, only: Filter) -> Filter:
        """The filter that looks into no secret; a problem if it asks for one of a type that it names. Arguments are
        searched in known types: of another one, any may be a secret.
        """
        wanted = argument(only.q) if only.q is not None else None
        if wanted is None:
            return only
        name = wanted.path[0]
        types = [each for each in only.type or self._secret if name in self.secret(each)]
        if types:
            is_known = types[0] in self._secret
            raise wrong(
                f"q: {name} is a secret of the type {types[0]}, which no search looks into; "
                f"ask for another argument, or with `type` for types of which it is no secret"
                if is_known
                else f"q: this release does not know the type {types[0]}: any of its arguments may be a secret",
                field="q",
            )
        return only if only.type else msgspec.structs.replace(only, type=tuple(self._secret))


def _masked(value: msgspec.Raw, secret: Container[str]) -> msgspec.Raw:
    """An object without the members of these names; anything else as it is."""
    if not bytes(value).startswith(b"{"):
        return value
    members = {name: _RAW_HIDDEN if name in secret else member for name, member in _members(bytes(value)).items()}
    return msgspec.Raw(_encode(members))


def may_write(environ: dict[str, Any]) -> bool:
    """Without tokens everybody may."""
    return bool(environ.get(SCOPE, WRITE) == WRITE)
