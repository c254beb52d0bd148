"""How a task type is declared: a decorated function, its limits, and the check of its arguments.

    @task("report.build", queue="reports", max_attempts=5, timeout=120)
    def build_report(context, month: str, rows: int = 10) -> dict: ...

    @task("report.nightly", schedule="0 3 * * *", timezone="Europe/Prague")
    def nightly(context) -> dict: ...

The decorator only marks the function; the registry collects what is marked.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from service.errors import InvalidTask, InvalidTaskType
from service.tasks import secret_texts, untyped
from service.tasks.document import (
    DEFAULT_MAX_ATTEMPTS,
    NESTING_LIMIT,
    NO_ARGS,
    NORMAL,
    PRIORITIES,
    Unique,
    is_nested_too_deeply,
)
from service.tasks.schedule import Terms
from service.tasks.schedule import check as check_plan
from service.tasks.unique import Rule

ARGUMENT_FAULT: Final = re.compile(r"Object (contains unknown|missing required) field `[^`]*`")
TYPE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MARK: Final = "__sandbox_task__"
DEFAULT_QUEUE: Final = "default"
RETRY_MANY: Final = "sandbox.retry"
CANCEL_MANY: Final = "sandbox.cancel"
NOT_OF_A_TYPE: Final = {"type", "queue", "paused"}
ON_MANY: Final = (RETRY_MANY, CANCEL_MANY)  # the types of acts on many tasks; only their own calls create them
_encode = msgspec.json.Encoder().encode
Handler = TypeVar("Handler", bound=Callable[..., Any])


class TaskType(NamedTuple):
    name: str
    handler: Callable[..., Any]
    queue: str
    max_attempts: int
    timeout: float | None
    arguments: type[msgspec.Struct]
    decode: Callable[[msgspec.Raw], Any]
    priority: str = NORMAL
    secret: tuple[str, ...] = ()  # arguments that only who may write gets to see
    unique: Rule | None = None
    limits: tuple[str, ...] = ()
    process: bool = False  # each attempt has one of its own
    schedule: Terms | None = None

    def accept(self, args: msgspec.Raw) -> msgspec.Raw:
        """A client's arguments, written anew: what it sent may be JSON that other readers cannot read.

        Raises InvalidTask, with the words that a client reads, unless the handler can take them.
        """
        try:
            value = untyped.decode(args)
            text = _encode(value)
        except RecursionError as error:
            raise _too_deep() from error
        except msgspec.ValidationError as error:
            raise InvalidTask(f"args: {error}", field="args") from error
        if is_nested_too_deeply(value, text):
            raise _too_deep()
        written = NO_ARGS if text == b"{}" else msgspec.Raw(text)
        self.check(written)
        return written

    def check(self, args: msgspec.Raw) -> None:
        """Raises InvalidTask, naming the argument, unless the handler can take these."""
        try:
            self.decode(args)
        except (msgspec.ValidationError, RecursionError) as error:
            raise InvalidTask(f"args: {error}{self._known(str(error))}", field="args") from None

    def _known(self, fault: str) -> str:
        """Which arguments there are, where one is missing or unknown."""
        if not ARGUMENT_FAULT.fullmatch(fault):
            return ""
        names = self.arguments.__struct_fields__
        return f"; {self.name} takes {', '.join(names) if names else 'no arguments'}"

    def unique_key(self, args: msgspec.Raw, rule: Rule | None) -> Unique | None:
        """Of a task with these arguments, by a client's rule or that of the type. Raises InvalidTask if a client's rule
        does not fit the type.
        """
        rule = self.unique if rule is None else rule
        if rule is None:
            return None
        if rule is not self.unique and (reason := rule.problem(self.arguments.__struct_fields__, self.secret)):
            raise InvalidTask(f"unique: {reason}", field="unique")
        return rule.unique(self.decode(args))

    def secret_texts(self, args: msgspec.Raw) -> tuple[str, ...]:
        """The values of the secret arguments, as they would stand in a log: what holds another one comes first."""
        if not self.secret:
            return ()
        members = untyped.decode(args)
        found = {text for name in self.secret if name in members for text in secret_texts.of(members[name])}
        return tuple(sorted(found, key=len, reverse=True))

    def run(self, context: Any, args: msgspec.Raw) -> Any:
        if args == NO_ARGS and not self.arguments.__struct_fields__:
            return self.handler(context)
        values = self.decode(args)
        return self.handler(context, **{name: getattr(values, name) for name in self.arguments.__struct_fields__})

    def describe(self) -> dict[str, Any]:
        return {
            "type": self.name,
            "description": inspect.getdoc(self.handler) or "",
            "queue": self.queue,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "priority": self.priority,
            "args": _schema(self.arguments),
            "secret": list(self.secret),
            "unique": self.unique,
            "limits": list(self.limits),
            "process": self.process,
        }


def _too_deep() -> InvalidTask:
    return InvalidTask(f"args: nested more than {NESTING_LIMIT} levels deep", field="args")


def task(
    name: str,
    *,
    queue: str = DEFAULT_QUEUE,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    timeout: float | None = None,
    priority: str = NORMAL,
    secret: Iterable[str] = (),
    limits: Iterable[str] = (),
    unique: Mapping[str, Any] | None = None,
    process: bool = False,
    schedule: str | float | Mapping[str, Any] | None = None,
    timezone: str | None = None,
) -> Callable[[Handler], Handler]:
    """Marks a function as the handler of a task type.

    `secret` names arguments that are hidden from readers. `limits` names what bounds how many run. `unique` says of
    what there is one task at a time, as in POST /tasks. With `process` each attempt runs in a process of its own.
    `schedule` is a cron line, or every how many seconds, or the fields of `PUT /schedules/<name>` but for type, queue
    and paused.
    """
    if not isinstance(name, str):
        raise InvalidTaskType(f'a task type needs a name: @task("{getattr(name, "__name__", "name")}")')

    hidden = (secret,) if isinstance(secret, str) else tuple(secret)
    bounded = (limits,) if isinstance(limits, str) else tuple(sorted(set(limits)))

    def mark(handler: Handler) -> Handler:
        task_type = _task_type(name, handler, queue, max_attempts, timeout, priority)
        task_type = task_type._replace(secret=hidden, limits=bounded, process=process)
        _refuse_unknown(name, hidden, task_type.arguments)
        _refuse_unnamable(name, bounded)
        task_type = task_type._replace(unique=_rule(task_type, unique))
        if schedule is not None:
            task_type = task_type._replace(schedule=_plan(task_type, schedule, timezone))
        elif timezone is not None:
            raise InvalidTaskType(f"{name}: timezone is for a schedule, and it has none")
        setattr(handler, MARK, task_type)
        return handler

    return mark


def _refuse_unnamable(name: str, limits: tuple[str, ...]) -> None:
    for each in limits:
        if not TYPE_NAME.fullmatch(each):
            raise InvalidTaskType(
                f"{name}: {each!r} cannot name a limit: letters, digits, '.', '_' and '-', at most 100"
            )


def _plan(task_type: TaskType, schedule: str | float | Mapping[str, Any], timezone: str | None) -> Terms:
    """Checked, so that what a type asks for can be kept."""
    given: dict[str, Any] = {"type": task_type.name} | ({} if timezone is None else {"timezone": timezone})
    if not isinstance(schedule, Mapping):
        given["cron" if isinstance(schedule, str) else "every"] = schedule
    elif not_its := NOT_OF_A_TYPE & schedule.keys():
        raise InvalidTaskType(f"{task_type.name}: its schedule has no {', '.join(sorted(not_its))} of its own")
    else:
        given |= schedule
    given["args"] = msgspec.Raw(_encode(given.get("args", {})))
    try:
        plan = msgspec.convert(given, Terms)
        check_plan(plan)
        task_type.check(plan.args)
    except (InvalidTask, msgspec.ValidationError) as error:
        raise InvalidTaskType(f"{task_type.name}: its schedule cannot be kept: {error}") from error
    return plan


def _refuse_unknown(name: str, secret: tuple[str, ...], arguments: type[msgspec.Struct]) -> None:
    for each in secret:
        if each not in arguments.__struct_fields__:
            raise InvalidTaskType(f"{name}: secret names {each!r}, and the handler has no such argument")


def _rule(task_type: TaskType, given: Mapping[str, Any] | None) -> Rule | None:
    if given is None:
        return None
    try:
        rule = msgspec.convert(given, Rule)
    except msgspec.ValidationError as error:
        raise InvalidTaskType(f"{task_type.name}: unique: {error}") from error
    if reason := rule.problem(task_type.arguments.__struct_fields__, task_type.secret):
        raise InvalidTaskType(f"{task_type.name}: unique: {reason}")
    return rule


def _task_type(
    name: str, handler: Callable[..., Any], queue: str, max_attempts: int, timeout: float | None, priority: str
) -> TaskType:
    if not TYPE_NAME.fullmatch(name):
        raise InvalidTaskType(f"{name!r} cannot name a task type: letters, digits, '.', '_' and '-', at most 100")
    # Of another kind, the documents of its tasks could not be read.
    if type(max_attempts) is not int or max_attempts < 1 or not (timeout is None or _is_time(timeout)):
        raise InvalidTaskType(
            f"{name}: max_attempts is a whole number from 1 on, timeout None or seconds above 0: an int or a float"
        )
    if priority not in PRIORITIES:
        raise InvalidTaskType(f"{name}: priority is {priority!r}; allowed are {', '.join(PRIORITIES)}")
    arguments = _arguments(name, handler)
    decode = msgspec.json.Decoder(arguments, float_hook=untyped.number).decode
    return TaskType(name, handler, queue, max_attempts, timeout, arguments, decode, priority)


def _is_time(seconds: float) -> bool:
    return type(seconds) in (int, float) and 0 < seconds < math.inf


def _arguments(name: str, handler: Callable[..., Any]) -> type[msgspec.Struct]:
    """A struct with the handler's parameters after `context`."""
    if (
        inspect.iscoroutinefunction(handler)
        or inspect.isgeneratorfunction(handler)
        or inspect.isasyncgenfunction(handler)
    ):
        raise InvalidTaskType(f"{name}: the handler must be a plain function: no async def, no yield")
    _, *parameters = _parameters(name, handler)
    definitions: list[Any] = []
    for parameter in parameters:
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.default is parameter.empty:
            definitions.append((parameter.name, kind))
        else:
            definitions.append((parameter.name, kind, _default(name, parameter)))
    try:
        return _struct(name, definitions)
    except (TypeError, NameError) as error:
        for definition in definitions:
            _refuse_unreadable(name, definition)
        raise InvalidTaskType(f"{name}: its arguments cannot come from JSON: {error}") from error


def _struct(name: str, definitions: list[Any]) -> type[msgspec.Struct]:
    arguments = msgspec.defstruct(f"{name} arguments", definitions, kw_only=True, forbid_unknown_fields=True)
    msgspec.json.Decoder(arguments)
    _schema(arguments)
    return arguments


def _refuse_unreadable(name: str, definition: Any) -> None:
    try:
        _struct(name, [definition])
    except (TypeError, NameError) as error:
        *_, reason = str(error).splitlines()  # msgspec's last line says what is wrong
        raise InvalidTaskType(f"{name}: the parameter {definition[0]} cannot come from JSON: {reason}") from error


def _parameters(name: str, handler: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(handler, eval_str=True).parameters.values())
    except Exception as error:
        raise InvalidTaskType(f"{name}: an annotation cannot be read: {type(error).__name__}: {error}") from error
    if not parameters:
        raise InvalidTaskType(f"{name}: the handler's first parameter is the context")
    if parameters[0].kind is inspect.Parameter.KEYWORD_ONLY or _comes_from_json(parameters[0].annotation):
        raise InvalidTaskType(
            f"{name}: the handler's first parameter is the context, and {parameters[0].name} looks like an argument"
        )
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidTaskType(f"{name}: *{parameter.name} cannot be checked; name each argument")
    for parameter in parameters[1:]:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidTaskType(f"{name}: {parameter.name} must be allowed as a keyword")
    return parameters


def _comes_from_json(annotation: Any) -> bool:
    try:
        return bool(msgspec.json.schema(annotation))  # empty for what may be anything
    except Exception:
        return False


def _default(name: str, parameter: inspect.Parameter) -> Any:
    if _may_be_changed(parameter.default):
        raise InvalidTaskType(f"{name}: the default of {parameter.name} is shared between runs; use None")
    return parameter.default


def _may_be_changed(default: Any) -> bool:
    """As a list may, or a tuple of lists, or an object of a dataclass."""
    try:
        hash(default)
    except TypeError:
        return True
    kind = type(default)
    return is_dataclass(kind) and not getattr(kind, "__dataclass_params__").frozen  # noqa: B009 - not in its stub


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    (root,), definitions = msgspec.json.schema_components([arguments])
    schema = dict(definitions.pop(root["$ref"].rpartition("/")[2]))
    if definitions:
        schema["$defs"] = definitions
    return schema


def marked_type(member: object) -> TaskType | None:
    try:
        found = getattr(member, MARK, None)
    except Exception:  # a proxy for what is not there now, as flask.current_app
        return None
    return found if isinstance(found, TaskType) else None
