"""Shows any Python value as small, plain JSON data without secrets. Logs and Sentry both use it.

It never calls the code of a value: a `__repr__` may be slow, fail, or show a password. Known types are shown, with
limits on number, length and depth. Of any other object it shows the class and the attributes.

A secret is whatever stands under a name that sounds like one: a key, an attribute, a header, the option before a
value, an assignment inside a text. So is whatever looks like one, wherever it stands: the user part of a URL, a
bearer token, a JWT, a private key, a token of this service, what follows `curl -u`. When in doubt, it is removed.
"""

import datetime
import decimal
import fractions
import itertools
import math
import pathlib
import re
import time
import types
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

REMOVED: Final = "[removed]"
CUT: Final = "…"
TEXT_LIMIT: Final = 1024
MARGIN: Final = 4096
LONGEST_LOOKED_INTO: Final = 1024 * 1024  # no secret is longer than a request's body: 256 KiB
MEMBERS: Final = 30
DEPTH: Final = 4
LARGEST_NUMBER: Final = 2**63

_WORDS: Final = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token|credential|authori[sz]ation|cookie|session|csrf|xsrf|dsn|signature|jwt"
    r"|(?:api|access|private|auth|encryption|signing|fernet|hmac|cipher|master|shared|account|ssh|aws)[-_ ]?key"
    r"|pw(?<![a-z]pw)(?![a-z])|x-auth(?![\w-])|netloc|userinfo"
)
# Matches db_pass and DBPASS, but not compass. It begins with letters, and looks back last: that is quicker.
_PASS: Final = r"pass(?<!compass)(?<!bypass)(?<!surpass)(?<!overpass)(?<!underpass)(?<!trespass)_?(?![a-z0-9])"
_NAME: Final = re.compile(rf"{_WORDS}|{_PASS}$|auth(?<![a-z]auth)$|^-*(?:pin|otp|sig|bearer|key)$")
_IN_QUERY: Final = "pin|otp|sig|key|code|state"
_QUERY_NAME: Final = re.compile(rf"{_WORDS}|{_PASS}$|auth(?<![a-z]auth)$|^(?:{_IN_QUERY})$")

_QUOTED: Final = r"[bru]{0,2}\\*\"(?:[^\"\\]|\\.)*\"?|[bru]{0,2}\\*'(?:[^'\\]|\\.)*'?"
# A comma belongs to the value, unless white space, a quote or the next name follows.
_BARE: Final = r"(?:[^\s,;&\"')}\]]|,(?![\s\"']|[\w.-]{0,40}[\"']?\s{0,3}[:=]))+"
_NAMED: Final = rf"(?:(?:{_WORDS})[\w.-]{{0,40}}|{_PASS}(?<=[\w-]pass))"
_USER: Final = r"(?:-[A-Za-z]{0,9}[uU]|--(?:proxy-)?user)"  # options of curl and others, before name:password
_IN_LIST: Final = r"\\*[\"'],\s*[bru]{0,2}"  # between an option and its value: ['--password', 'x']
# Each pattern below needs one of these. Most texts have none, and looking for them is quicker than matching.
_SUSPECT: Final = (
    "pass", "pw", "secret", "token", "key", "credential", "authori", "cookie", "session", "csrf", "xsrf", "dsn",
    "signature", "jwt", "://", "bearer", "basic", "eyj", "x-auth", "sbx_", "-u", "curl", "?", "&",
    "netloc", "userinfo",
)  # fmt: skip
_BY_LOOKS: Final = (
    (r"sbx_[\w-]{40,}", REMOVED),  # a token of this service
    (r"(?is)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", REMOVED),
    (r"([A-Za-z][A-Za-z0-9+.-]{1,30}://)[^\s/\"'<>]*@", rf"\1{REMOVED}@"),
    # A password with a slash; a number before the slash is a port.
    (
        r"([A-Za-z][A-Za-z0-9+.-]{1,30}+://)[^\s/:@\"'<>]{0,100}+:(?!\d{1,5}[/?#])[^\s@\"'<>]{0,200}+@",
        rf"\1{REMOVED}@",
    ),
    (rf"(?i)([?&](?:{_IN_QUERY})=)[^\s&\"'<>)]+", rf"\1{REMOVED}"),
    (r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}", rf"\1 {REMOVED}"),
    # Looks only into runs that end at a dot: each is read a few times at most, however often it has eyJ.
    (r"(?<![\w-])(?=[\w-]++\.[\w-])([\w-]*?)\beyJ[\w-]{5,}+\.[\w-]++(?:\.[\w-]*+)?", rf"\1{REMOVED}"),
)
_BY_NAME: Final = (
    (rf"(?i)({_NAMED}\\*[\"']?\s*(?:=>|[:=])\s*)(?:{_QUOTED}|{_BARE})", rf"\1{REMOVED}"),
    (rf"(?i)((?<![\w-])--?[\w-]{{0,40}}{_NAMED}(?:\s+|{_IN_LIST}))(?:{_QUOTED}|[^\s-]\S*)", rf"\1{REMOVED}"),
    # Only a value with a colon has a password; a URL is seen to above.
    (
        rf"((?<![\w-]){_USER}(?:=|\s+|{_IN_LIST}|(?<=-[uU])))"
        r"(?:\\*\"[^\"]{0,100}:[^\"]*\"?|\\*'[^']{0,100}:[^']*'?|[^\s:\"']{1,100}+:(?!//)[^\s\"']+)",
        rf"\1{REMOVED}",
    ),
    # An element of XML. Nothing is tried twice where there is no end of it.
    (rf"(?i)(<[\w.:-]{{0,40}}?{_NAMED}(?:\s[^<>]{{0,200}})?>\s*+(?:<!\[CDATA\[)?)[^<]++(?=</)", rf"\1{REMOVED}"),
)
# A header: the whole line may be the secret.
_BY_HEADER: Final = ((r"(?i)((?:authorization|cookie)\\*[\"']?\s*[:=]\s*\\*[\"']?)[^\r\n\"'\\]+", rf"\1{REMOVED}"),)
# Source code names secrets all the time. Only a literal is one.
_BY_LITERAL: Final = (
    (
        rf"(?i)({_NAMED}[\"']?\]?\s*(?:[:=]|,)\s*[rbfu]{{0,2}})(?:\"[^\"]+\"?|'[^']+'?)",
        rf"\1{REMOVED!r}",
    ),
    (rf"(?i)([?&]{_NAMED}=)[^\s&\"']+", rf"\1{REMOVED}"),
)

_SHOWN_AS_TEXT: Final = frozenset(
    (
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, decimal.Decimal,
        fractions.Fraction, pathlib.PosixPath, pathlib.PurePosixPath, complex, range,
    )
)  # fmt: skip

_COLLECTIONS: Final[tuple[Any, ...]] = (list, tuple, set, frozenset, deque)
_arguments: Final = vars(BaseException)["args"].__get__
_CODE: Final = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


# Texts that are secret in this thread or greenlet, however they look.
secrets: ContextVar[tuple[str, ...]] = ContextVar("secrets", default=())


def is_secret(name: object) -> bool:
    if type(name) is bytes:
        name = name[:200].decode("latin-1")
    return issubclass(type(name), str) and _NAME.search(str.__str__(name)[:200].casefold()) is not None


def text(value: str, limit: int = TEXT_LIMIT) -> str:
    """Removes secrets before it cuts: half a secret would not be recognised."""
    shown = _without_looks(without_known(str.__str__(value))[: min(4 * limit, limit + MARGIN)])
    return shown if len(shown) <= limit else shown[:limit] + CUT


def source(line: str) -> str:
    line = line[:TEXT_LIMIT]
    return _replaced(line, *_BY_LOOKS, *_BY_LITERAL) if _is_suspect(line) else line


def line(value: str, limit: int) -> str:
    """Returns the text unchanged if there is nothing to hide."""
    return text(value, limit) if len(value) > limit or _is_suspect(value) or secrets.get() else value


def field(name: object, value: object, limit: int = TEXT_LIMIT) -> Any:
    """The value under this name as JSON data: a text up to the limit, anything else as `plain` shows it."""
    if is_secret(name):
        return REMOVED
    return line(str.__str__(value), limit) if issubclass(type(value), str) else plain(value)


# A key whose beginning was cut off.
_REST_OF_KEY: Final = re.compile(r".*-----END [A-Z ]{0,40}PRIVATE KEY-----", re.DOTALL)


def end(value: str, limit: int) -> str:
    """The end of a long text, in whole lines. At its end a traceback says what happened."""
    shown = _without_looks(without_known(value[-LONGEST_LOOKED_INTO:])[-limit - MARGIN :])
    shown = _REST_OF_KEY.sub(REMOVED, shown, count=1)
    if max(len(value), len(shown)) <= limit:
        return shown
    return shown[-limit:].partition("\n")[2] or shown[-limit:]


def without_known(value: str) -> str:
    """Without the attempt's own secrets, of any length. Of a very long text only the beginning is left."""
    if known := secrets.get():
        value = value[:LONGEST_LOOKED_INTO]
        for each in known:
            value = value.replace(each, REMOVED)
    return value


def _without_looks(value: str) -> str:
    shown = value.encode("utf-8", "replace").decode().replace("\0", " ")
    return _replaced(shown, *_BY_HEADER, *_BY_LOOKS, *_BY_NAME) if _is_suspect(shown) else shown


def _is_suspect(shown: str) -> bool:
    folded = shown.casefold()
    for word in _SUSPECT:  # noqa: SIM110 - any() would take twice as long, for each line that is logged
        if word in folded:
            return True
    return False


def _replaced(shown: str, *replacements: tuple[str, str]) -> str:
    for pattern, replacement in replacements:
        shown = _compiled(pattern).sub(replacement, shown)
    return shown


_compiled: Final = cache(re.compile)  # when first needed: most processes never need one


def query(text_of_query: str) -> str:
    """A URL's query. It is taken apart, because names may be percent-encoded."""
    pairs = parse_qsl(text_of_query[: 4 * TEXT_LIMIT], keep_blank_values=True)
    shown = [(name, REMOVED if _QUERY_NAME.search(name.casefold()) else text(value)) for name, value in pairs[:MEMBERS]]
    return urlencode(shown, safe="[]")


class Budget:
    """The processor's time and the characters that may be spent in all. On a busy machine the clock goes on alone."""

    def __init__(self, seconds: float = 0.02, characters: int = 100_000) -> None:
        self._until = time.thread_time() + seconds
        self._left = characters

    def spend(self, characters: int) -> None:
        self._left -= characters

    @property
    def spent(self) -> bool:
        return self._left <= 0 or time.thread_time() > self._until


def plain(value: Any, budget: Budget | None = None, depth: int = DEPTH) -> Any:
    """The value as JSON data, whatever it is. Never raises."""
    budget = budget or Budget()
    if budget.spent:
        return CUT
    try:
        shown = _plain(value, budget, depth)
    except Exception:  # it changed meanwhile, or lies about what it is
        return _class(value)
    budget.spend(len(shown) if type(shown) is str else 8)
    return shown


def _plain(value: Any, budget: Budget, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, int):
        whole = int.__int__(value)
        return _shown(whole) if -LARGEST_NUMBER < whole < LARGEST_NUMBER else f"<a number of {whole.bit_length()} bits>"
    if issubclass(kind, float):
        number = float.__float__(value)
        return _shown(number) if math.isfinite(number) else str(number)
    if issubclass(kind, str):
        return text(value)
    if issubclass(kind, bytes | bytearray | memoryview):
        return f"<{memoryview(value).nbytes} bytes>"
    if kind in _SHOWN_AS_TEXT:
        return text(str(value))
    if depth <= 0:
        return _class(value)
    if issubclass(kind, dict):
        return _members(dict.items(value), dict.__len__(value), budget, depth)
    if issubclass(kind, tuple) and (names := getattr(kind, "_fields", ())):  # a named one
        return {"": _class(value)} | _members(zip(names, tuple.__iter__(value), strict=True), len(names), budget, depth)
    for base in _COLLECTIONS:
        if issubclass(kind, base):
            return _list(base.__iter__(value), base.__len__(value), budget, depth)
    return _object(value, budget, depth)


def _shown(value: float) -> Any:
    told = str(value) if secrets.get() else ""
    return value if (shown := without_known(told)) == told else shown


def _members(items: Iterable[tuple[Any, Any]], count: int, budget: Budget, depth: int) -> dict[str, Any]:
    shown = {}
    for name, value in itertools.islice(items, MEMBERS):
        key = text(name, 100) if issubclass(type(name), str) else str(plain(name, budget, 0))
        shown[key] = REMOVED if is_secret(name) else plain(value, budget, depth - 1)
    if count > MEMBERS:
        shown[CUT] = f"{count - MEMBERS} more"
    return shown


def _list(members: Iterable[Any], count: int, budget: Budget, depth: int) -> list[Any]:
    shown = [
        REMOVED if _is_secret_after(name, member) else plain(member, budget, depth - 1)
        for name, member in itertools.pairwise(itertools.chain([None], itertools.islice(members, MEMBERS)))
    ]
    return shown if count <= MEMBERS else [*shown, f"{CUT} {count - MEMBERS} more"]


def _is_secret_after(name: object, member: object) -> bool:
    """A text after a secret's name: ['--password', 'x'], ('Authorization', 'x'); and ['curl', '-u', 'name:x']."""
    if is_secret(name):
        return issubclass(type(member), str | bytes)
    if type(name) is not str or type(member) is not str:
        return False
    return ":" in member and _compiled(_USER).fullmatch(name) is not None


def _object(value: Any, budget: Budget, depth: int) -> Any:
    attributes = None if issubclass(type(value), _CODE) else _attributes(value)
    if not attributes:
        return _class(value)
    return {"": _class(value)} | _members(dict.items(attributes), len(attributes), budget, min(depth, 2))


def _attributes(value: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(value, "__dict__")
    except Exception:
        return None
    if type(found) is not dict:
        return None
    return {"args": _arguments(value)} | found if issubclass(type(value), BaseException) else found


def _class(value: Any) -> str:
    kind = value if issubclass(type(value), type) else type(value)
    return f"<{type.__getattribute__(kind, '__module__')}.{type.__getattribute__(kind, '__qualname__')}>"


def headers(pairs: Mapping[str, str]) -> dict[str, str]:
    return {name: REMOVED if is_secret(name) else text(value) for name, value in itertools.islice(pairs.items(), 50)}
