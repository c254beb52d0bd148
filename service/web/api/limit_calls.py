"""GET /limits, and the calls that read, set and remove one."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from flask import Blueprint, request

from service.observe.audit import AuditLog
from service.store import Limit, Store
from service.store.limits import disagreeing
from service.tasks.declare import TYPE_NAME
from service.tasks.limit_rule import LimitRule
from service.tasks.registry import Registry
from service.web import answers, auditing, body
from service.web.answers import Answer
from service.web.api.intake import parsed
from service.web.problem import Problem, not_found, wrong

ROUNDS: Final = 10  # of those who wait; the runners go on with the others
_decoder = msgspec.json.Decoder(LimitRule)


class LimitCalls:
    def __init__(self, *, store: Store, registry: Registry, audit: AuditLog | None) -> None:
        self._store = store
        self._types = [task_type for task_type in registry if task_type.limits]
        self._audit = audit

    def blueprint(self) -> Blueprint:
        calls = Blueprint("limits", __name__, url_prefix="/limits")
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/<name>", view_func=self.read)
        calls.add_url_rule("/<name>", view_func=self.put, methods=["PUT"])
        calls.add_url_rule("/<name>", view_func=self.delete, methods=["DELETE"])
        return calls

    def list(self) -> Answer:
        return answers.json({"limits": self.all()})

    def read(self, name: str) -> Answer:
        return answers.json(self.one(name))

    def put(self, name: str) -> Answer:
        rule = parsed(_decoder, body.read(request.environ))
        existed = self.set(name, rule)
        return answers.json(self.one(name), 200 if existed else 201)

    def delete(self, name: str) -> Answer:
        self.remove(name)
        return answers.json(_shown(name, Limit(None), self._naming(name)))

    def set(self, name: str, rule: LimitRule) -> bool:
        if not TYPE_NAME.fullmatch(name):
            raise wrong(
                "name: letters, digits, '.', '_' and '-', at most 100; it begins with a letter or digit", field="name"
            )
        rule.check()
        self._refuse_apart(name, rule)
        existed = self._store.limits.put(name, rule)
        self._tell("limited", name, rule=msgspec.json.encode(rule).decode())
        self._serve()
        return existed

    def remove(self, name: str) -> None:
        if not self._store.limits.remove(name):
            raise _unknown()
        self._tell("unlimited", name)
        self._serve()

    def all(self) -> Sequence[dict[str, Any]]:
        """Those that are set, those that types name, and those at which tasks still wait."""
        found = self._store.limits.now()
        names = sorted({*found, *[name for task_type in self._types for name in task_type.limits]})
        return [_shown(name, found.get(name, Limit(None)), self._naming(name)) for name in names]

    def one(self, name: str) -> dict[str, Any]:
        for limit in self.all():
            if limit["limit"] == name:
                return limit
        raise _unknown()

    def _naming(self, name: str) -> Sequence[str]:
        return [task_type.name for task_type in self._types if name in task_type.limits]

    def _refuse_apart(self, name: str, rule: LimitRule) -> None:
        """On several partitions all limits of a type lie in one, and so have one key."""
        if self._store.partitions == 1:
            return
        found = self._store.limits.now()
        for task_type in self._types:
            others = [found[each].rule for each in task_type.limits if each in found and each != name]
            if name in task_type.limits and any(other and other.key != rule.key for other in others):
                raise Problem(409, disagreeing(task_type), field="key")

    def _serve(self) -> None:
        for _ in range(ROUNDS):
            if self._store.limits.serve() > 0:
                break

    def _tell(self, did: str, name: str, **facts: Any) -> None:
        auditing.tell(self._audit, did, limit=name, **facts)


def _unknown() -> Problem:
    return not_found("there is no limit of that name; GET /limits lists what there is")


def _shown(name: str, limit: Limit, types: Sequence[str]) -> dict[str, Any]:
    rule = limit.rule or LimitRule()
    return {
        "limit": name,
        "set": limit.rule is not None,
        **{field: getattr(rule, field) for field in LimitRule.__struct_fields__},
        "waiting": limit.waiting,
        "keys": limit.keys,
        "types": types,
    }
