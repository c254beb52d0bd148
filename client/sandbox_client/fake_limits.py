"""The limits of a sandbox in memory: kept and shown, but they hold up nothing."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Json = dict[str, Any]

UNSET: Final[Json] = {"key": None, "concurrency": None, "rate": None, "burst": None, "overrides": {}}
RATE: Final = re.compile(r"[1-9][0-9]{0,6}/(second|minute|hour|day)")
KEY: Final = re.compile(r"args(\.[A-Za-z_][A-Za-z0-9_]*)+")


class FakeLimits:
    def __init__(self, refuse: Callable[..., Exception]) -> None:
        self._refuse = refuse
        self._rules: dict[str, Json] = {}

    def all(self) -> list[Json]:
        return [self.find(name) for name in sorted(self._rules)]

    def find(self, name: str) -> Json:
        if name not in self._rules:
            raise self._refuse(404, f"there is no limit {name}")
        return _shown(name, self._rules[name], True)

    def put(self, name: str, rule: Json) -> tuple[int, Json]:
        for field in rule.keys() - UNSET.keys():
            raise self._wrong(field, "there is no such field")
        if rule.get("key") is not None and not KEY.fullmatch(rule["key"]):
            raise self._wrong("key", "as in args.customer")
        for bounds in (rule, *rule.get("overrides", {}).values()):
            self._check(bounds)
        if rule.get("overrides") and rule.get("key") is None:
            raise self._wrong("overrides", "they are by the key's value, and there is no key")
        existed = name in self._rules
        self._rules[name] = rule
        return (200 if existed else 201), self.find(name)

    def remove(self, name: str) -> Json:
        self.find(name)
        del self._rules[name]
        return _shown(name, {}, False)

    def _check(self, bounds: Mapping[str, Any]) -> None:
        rate = bounds.get("rate")
        if bounds.get("concurrency") is None and rate is None:
            raise self._wrong("concurrency", "give concurrency, or rate, or both")
        if rate is not None and not RATE.fullmatch(rate):
            raise self._wrong("rate", "as in 100/minute")
        if bounds.get("burst") is not None and rate is None:
            raise self._wrong("burst", "it goes with a rate")
        for field in ("concurrency", "burst"):
            if bounds.get(field) is not None and bounds[field] < 1:
                raise self._wrong(field, "1 or more")

    def _wrong(self, field: str, reason: str) -> Exception:
        return self._refuse(422, f"{field}: {reason}", field=field)


def _shown(name: str, rule: Json, is_set: bool) -> Json:
    return {"limit": name, "set": is_set, **UNSET, **rule, "waiting": 0, "keys": 0, "types": []}
