"""The calls as OpenAPI 3.1, for client generators and for tests that try everything."""

from collections.abc import Sequence
from typing import Any, Final, get_type_hints

import msgspec

from service.store import AtWork
from service.store.history import QUEUE_GAUGES, RUNNER_GAUGES
from service.store.tally import ENDS, TIMES
from service.tasks.attempts import OUTCOMES
from service.tasks.document import PRIORITIES, PUBLIC, SHOWN_STATUSES, Task
from service.tasks.limit_rule import LimitRule
from service.tasks.lines import MOST_LINES
from service.tasks.schedule import OVERLAPS
from service.web import problem
from service.web.api.exposition import CONTENT_TYPE
from service.web.api.intake import BATCH_LIMIT, NewTask
from service.web.api.listing import DEFAULT_LIMIT, FILTERS, HIGHEST_LIMIT, Wanted
from service.web.api.pausing import NewPause
from service.web.api.schedule_calls import NewSchedule
from service.web.api.workspace_calls import BRANCHES, Granting, NewWorkspace, Rebuilding, Resuming
from service.web.api.workspace_desk import SIMPLE
from service.workspaces.names import SLUG
from service.workspaces.record import STATES, Workspace
from service.workspaces.releases.ledger import ID as RELEASE_ID

Object = dict[str, Any]

UID = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TEXT = {"type": "string"}
GIVEN_MOMENT = {"type": "string", "description": "RFC 3339, with an offset"}  # more is taken than a format would allow
SCHEMAS: Final = "#/components/schemas"
MOMENT: Final = {"type": "string", "format": "date-time"}
OR_PAUSE: Final = {"anyOf": [{"$ref": f"{SCHEMAS}/Pause"}, {"type": "null"}]}

_FIELDS: Final = get_type_hints(Task, include_extras=True)
# The document as clients see it. It has no defaults: clients get every field.
PublicTask: Final = msgspec.defstruct("Task", [(name, _FIELDS[name]) for name in PUBLIC])
# The record of a workspace as clients see it; what it holds of another release is none of theirs.
PublicWorkspace: Final = msgspec.defstruct(
    "Workspace", [(name, kind) for name, kind in get_type_hints(Workspace).items() if name != "rest"]
)

OF_WORKSPACES: Final = (NewWorkspace, Rebuilding, Resuming, Granting)


def describe(types: Sequence[str], queues: Sequence[str]) -> Object:
    return {
        "openapi": "3.1.0",
        "info": {"title": "sandbox", "version": "1", "description": "Create tasks, and see what becomes of them."},
        "paths": _paths(),
        "components": {
            "schemas": _schemas(types, queues),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _schemas(types: Sequence[str], queues: Sequence[str]) -> Object:
    """Made from the structs that read and write these objects: a new field shows up here by itself."""
    shown = [
        NewTask,
        PublicTask,
        Wanted,
        AtWork,
        NewPause,
        LimitRule,
        NewSchedule,
        PublicWorkspace,
        NewWorkspace,
        Rebuilding,
        Resuming,
        Granting,
    ]
    _, made = msgspec.json.schema_components(shown, ref_template=f"{SCHEMAS}/{{name}}")
    return {
        **{name: _sent(schema) for name, schema in made.items()},
        "Wanted": _wanted(made["Wanted"]),
        "NewTask": _new_task(made["NewTask"], types, queues),
        "NewPause": made["NewPause"],
        "Rule": made["Rule"],
        "OfArguments": made["OfArguments"],
        "LimitRule": made["LimitRule"],
        "Bounds": made["Bounds"],
        "Limit": _limit(made["LimitRule"]),
        "NewSchedule": _new_schedule(made["NewSchedule"], types, queues),
        **{each.__name__: made[each.__name__] for each in OF_WORKSPACES},
        "Workspace": _workspace(made["Workspace"]),
        "TaskType": _task_type(),
        "LogLine": _log_line(),
        "Attempt": _attempt(),
        "Queue": _queue(),
        "Pause": _pause(),
        "Schedule": _schedule(),
        "Problem": _problem(),
    }


def _paths() -> Object:
    uid = _parameter("path", "uid", UID)
    key = _parameter("header", "Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,255}$"})
    wait = _parameter("header", "Prefer", {"type": "string", "pattern": "^wait=[0-9]{1,2}$"})
    purge = _parameter("query", "purge", {"const": ""})
    exclude = _parameter("query", "exclude", {"enum": ["runners"]})
    task, tasks = _reference("Task"), _list_of("tasks", "Task")
    return {
        "/tasks": {
            "get": _call("listTasks", 200, _page(), refused=(404, 422), parameters=[*_query(), wait]),
            "post": _call("createTask", 201, task, 200, body=_reference("NewTask"), refused=(409,), parameters=[key]),
        },
        "/tasks/batch": {
            "post": _call("createTasks", 201, tasks, 200, body=_batch(), refused=(409,), parameters=[key])
        },
        "/tasks/retry": {"post": _on_many("retryTasks", task)},
        "/tasks/cancel": {"post": _on_many("cancelTasks", task)},
        "/tasks/{uid}": {
            "get": _call("readTask", 200, task, refused=(404,), parameters=[uid, wait]),
            "delete": _call("cancelTask", 200, task, refused=(404, 409, 422), parameters=[uid, purge]),
        },
        "/tasks/{uid}/retry": {"post": _call("retryTask", 200, task, refused=(404, 409), parameters=[uid])},
        "/tasks/{uid}/log": {"get": _log(uid)},
        "/tasks/{uid}/attempts": {
            "get": _call("readAttempts", 200, _list_of("attempts", "Attempt"), refused=(404, 422), parameters=[uid])
        },
        "/tasks/{uid}/events": {"get": _events(uid)},
        "/types": {"get": _call("listTypes", 200, _types())},
        **_pausing("types", "Type", "TaskType"),
        "/queues": {"get": _call("listQueues", 200, _list_of("queues", "Queue"))},
        **_pausing("queues", "Queue", "Queue"),
        "/limits": {"get": _call("listLimits", 200, _list_of("limits", "Limit"))},
        "/limits/{name}": _of_one_limit(),
        **_schedules(_reference("Schedule"), task, key),
        "/runners": {"get": _call("listRunners", 200, _list_of("runners", "AtWork"))},
        **_workspaces(),
        **_releases(),
        "/metrics": {"get": _metrics()},
        "/metrics/history": {"get": _call("readHistory", 200, _history(), refused=(422,), parameters=_history_query())},
        "/health/live": {"get": _call("live", 200, {"type": "object"})},
        "/health/ready": {"get": _call("ready", 200, {"type": "object"}, parameters=[exclude])},
        "/openapi.json": {"get": _call("describe", 200, {"type": "object"})},
    }


def _pausing(resource: str, noun: str, schema: str) -> Object:
    name, answer = _parameter("path", "name", {"type": "string", "minLength": 1}), _reference(schema)
    body = _reference("NewPause")
    pause = _call(f"pause{noun}", 200, answer, body=body, body_is_needed=False, refused=(404,), parameters=[name])
    resume = _call(f"resume{noun}", 200, answer, refused=(404,), parameters=[name])
    return {f"/{resource}/{{name}}/pause": {"post": pause}, f"/{resource}/{{name}}/resume": {"post": resume}}


def _of_one_limit() -> Object:
    name = _parameter("path", "name", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"})
    limit = _reference("Limit")
    put = _call("setLimit", 201, limit, 200, body=_reference("LimitRule"), refused=(409,), parameters=[name])
    return {
        "get": _call("readLimit", 200, limit, refused=(404,), parameters=[name]),
        "put": put,
        "delete": _call("removeLimit", 200, limit, refused=(404,), parameters=[name]),
    }


def _schedules(schedule: Object, task: Object, key: Object) -> Object:
    name = _parameter("path", "name", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"})
    removed = _call("deleteSchedule", 200, schedule, refused=(404, 409), parameters=[name])
    removed["responses"]["204"] = {"description": "It is removed; what it was could not be read."}
    body = _reference("NewSchedule")
    return {
        "/schedules": {"get": _call("listSchedules", 200, _list_of("schedules", "Schedule"))},
        "/schedules/{name}": {
            "get": _call("readSchedule", 200, schedule, refused=(404, 409), parameters=[name]),
            "put": _call("putSchedule", 200, schedule, 201, body=body, refused=(409,), parameters=[name]),
            "delete": removed,
        },
        "/schedules/{name}/run": {
            "post": _call("runSchedule", 201, task, 200, refused=(400, 404, 409, 422), parameters=[name, key])
        },
        "/schedules/{name}/pause": {"post": _call("pauseSchedule", 200, schedule, refused=(404,), parameters=[name])},
        "/schedules/{name}/resume": {"post": _call("resumeSchedule", 200, schedule, refused=(404,), parameters=[name])},
    }


def _workspaces() -> Object:
    slug = _parameter("path", "slug", {"type": "string", "pattern": f"^{SLUG.pattern}$"})
    lost = [_parameter("query", "force", {"const": ""}), _parameter("query", "branch", {"enum": [*BRANCHES]})]
    begun = _object({"workspace": _reference("Workspace"), "task": {"anyOf": [_reference("Task"), {"type": "null"}]}})

    def act(name: str, status: int = 202, **given: Any) -> Object:
        return {"post": _call(f"{name}Workspace", status, begun, refused=(404, 409), parameters=[slug], **given)}

    place, new = "/workspaces/{slug}", _reference("NewWorkspace")
    return {
        "/workspaces": {
            "get": _call("listWorkspaces", 200, _list_of("workspaces", "Workspace"), refused=(404, 422)),
            "post": _call("createWorkspace", 202, begun, 200, body=new, refused=(404, 409, 429)),
        },
        place: {
            "get": _call("readWorkspace", 200, _reference("Workspace"), refused=(404, 409, 422), parameters=[slug]),
            "delete": _call("deleteWorkspace", 202, begun, refused=(404, 409, 422), parameters=[slug, *lost]),
        },
        **{f"{place}/{action}": act(action) for action in SIMPLE},
        f"{place}/resume": act("resume", body=_reference("Resuming"), body_is_needed=False),
        f"{place}/extend": act("extend", 200),
        f"{place}/rebuild": act("rebuild", body=_reference("Rebuilding"), body_is_needed=False),
        f"{place}/access": act("access", body=_reference("Granting")),
        f"{place}/link": {
            "post": _call("linkWorkspace", 200, _object({"link": TEXT}), refused=(404, 409), parameters=[slug])
        },
        f"{place}/log": {"get": _log(slug, "readWorkspaceLog")},
        "/hooks/git": {"post": _hook()},
    }


def _releases() -> Object:
    named = _parameter("path", "id", {"type": "string", "pattern": f"^{RELEASE_ID.pattern}$"})
    proved = _object({"release": TEXT, "sha": TEXT, "at": TEXT, "task": UID})
    asked = _object({"release": TEXT, "task": UID, "by": TEXT, "at": TEXT, "state": TEXT})
    described = _object(
        {
            "stages": {"type": "array", "items": TEXT},
            "releases": {"type": "array", "items": proved},
            "current": {"type": ["string", "null"]},
            "asked": {"anyOf": [asked, {"type": "null"}]},
        }
    )
    begun = _object({"release": TEXT, "task": _reference("Task")})
    return {
        "/releases": {"get": _call("listReleases", 200, described, refused=(404, 409, 422))},
        "/releases/{id}/promote": {"post": _call("promoteRelease", 202, begun, refused=(404, 409), parameters=[named])},
    }


def _hook() -> Object:
    names = {"type": "array", "items": TEXT}
    left = {"type": "array", "items": _object({"workspace": TEXT, "because": TEXT})}
    found = _object({"detail": TEXT, "workspaces": names, "tasks": names, "left": left})
    body: Object = {"type": "object"}
    return _call("gitHook", 202, found, 200, body=body, refused=(404,)) | {"security": [{}]}


def _workspace(schema: Object) -> Object:
    schema["properties"]["state"] = {"enum": [*STATES]}
    return _sent(schema)


def _call(
    name: str,
    *successes_and_schema: Any,
    body: Object | None = None,
    body_is_needed: bool = True,
    refused: Sequence[int] = (),
    parameters: Sequence[Object] = (),
) -> Object:
    """`successes_and_schema`: a status, the schema of its answer, then further statuses with the same schema."""
    first, schema, *others = successes_and_schema
    call: Object = {"operationId": name, "parameters": list(parameters)}
    statuses = (401, 403, *refused, 503, "default")
    if body is not None:
        call["requestBody"] = {"required": body_is_needed, "content": {"application/json": {"schema": body}}}
        statuses = (400, 413, 415, 422, *statuses)
    responses = {str(status): _response("As asked for.", "application/json", schema) for status in (first, *others)}
    for status in statuses:
        responses[str(status)] = _response("A problem.", problem.CONTENT_TYPE, _reference("Problem"))
    return call | {"responses": responses}


def _log(uid: Object, name: str = "readLog") -> Object:
    after = _parameter("query", "after", {"type": "string", "pattern": "^[0-9]{1,15}$"})
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_LINES, "default": MOST_LINES}
    page = _list_of("lines", "LogLine")
    page["properties"] |= {"next": TEXT, "dropped": {"type": "integer", "minimum": 0}}
    page["required"] += ["next", "dropped"]
    parameters = [uid, after, _parameter("query", "limit", limit)]
    call = _call(name, 200, page, refused=(404, 422), parameters=parameters)
    call["responses"]["200"]["content"]["text/plain"] = {"schema": TEXT}
    return call


def _events(uid: Object) -> Object:
    """A stream of server-sent events: `task`, `log`, `end`."""
    last = _parameter("header", "Last-Event-ID", TEXT)
    call = _call("readEvents", 200, TEXT, refused=(404, 422), parameters=[uid, last])
    call["responses"]["200"]["content"] = {"text/event-stream": {"schema": TEXT}}
    call["responses"]["204"] = {"description": "The reader has seen all, and the task has ended."}
    return call


def _response(description: str, content_type: str, schema: Object) -> Object:
    headers = {"X-Request-ID": {"schema": TEXT, "required": True}}
    return {"description": description, "headers": headers, "content": {content_type: {"schema": schema}}}


def _reference(name: str) -> Object:
    return {"$ref": f"{SCHEMAS}/{name}"}


def _parameter(place: str, name: str, schema: Object) -> Object:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _on_many(name: str, task: Object) -> Object:
    """With dry_run it only counts."""
    call = _call(name, 202, task, body=_reference("Wanted"))
    matched = _object({"matched": {"type": "integer", "minimum": 0}, "more": {"type": "boolean"}})
    call["responses"]["200"] = _response("With dry_run: how many there are.", "application/json", matched)
    return call


def _wanted(schema: Object) -> Object:
    """Of several names each may be given by itself. Their moments and searches are checked beyond the struct."""
    return schema | {"minProperties": 1, "required": []}


def _metrics() -> Object:
    call = _call("scrape", 200, TEXT)
    call["responses"]["200"] = _response("For Prometheus.", CONTENT_TYPE.partition(";")[0], TEXT)
    return call


def _history() -> Object:
    """The series that there are; or one of them, with its points and the marks of the same time."""
    names = {"type": "array", "items": TEXT}
    number = {"type": ["number", "null"], "minimum": 0}
    count = {"type": "integer", "minimum": 0}
    times = _object({"count": count, "mean": number, "median": number, "p95": number})
    said = {**dict.fromkeys(ENDS, count), **dict.fromkeys(TIMES, times)}
    counted = _object({"at": MOMENT, **said})
    measured = [_object({"at": MOMENT, **dict.fromkeys(gauges, number)}) for gauges in (QUEUE_GAUGES, RUNNER_GAUGES)]
    mark = _object({"at": MOMENT, "what": TEXT, "watcher": TEXT, "release": TEXT})
    one = _object(
        {
            "series": TEXT,
            "resolution": {"enum": ["minute", "hour"]},
            "from": MOMENT,
            "to": MOMENT,
            "points": {"type": "array", "items": {"anyOf": [counted, *measured]}},
            "marks": {"type": "array", "items": mark},
        }
    )
    one["properties"]["summary"] = _object(said)
    return {"anyOf": [_object({"counts": names, "gauges": names}), one]}


def _history_query() -> list[Object]:
    schemas = {
        "series": {"type": "string", "pattern": "^[A-Za-z0-9._/:-]{1,210}$"},
        "from": GIVEN_MOMENT,
        "to": GIVEN_MOMENT,
    }
    return [_parameter("query", name, schema) for name, schema in schemas.items()]


def _filter(name: str) -> Object:
    """Those that may be given several times are described as given once, or with commas in between."""
    if name == "status":
        one = "|".join(SHOWN_STATUSES)
        return {"type": "string", "pattern": f"^({one})(,({one}))*$"}
    if name in ("created_after", "created_before"):
        return GIVEN_MOMENT
    if name == "parent":
        return UID
    if name == "q":
        return {"type": "string", "pattern": "^([0-9a-f]{8,64}|args[.][^=]{1,100}=.{0,100})$"}
    return TEXT


def _query() -> list[Object]:
    limit = {"type": "integer", "minimum": 1, "maximum": HIGHEST_LIMIT, "default": DEFAULT_LIMIT}
    schemas: dict[str, Object] = {
        "task_id": UID,
        **{name: _filter(name) for name in FILTERS},
        "limit": limit,
        "cursor": {"type": "string", "pattern": "^[0-9]{1,16}-[0-9a-f]{64}$"},
    }
    return [_parameter("query", name, schema) for name, schema in schemas.items()]


def _page() -> Object:
    """The list; or one task, if the query has `task_id`."""
    page = _list_of("tasks", "Task")
    page["properties"]["next"] = {"type": ["string", "null"]}
    page["required"].append("next")
    return {"anyOf": [page, _reference("Task")]}


def _list_of(name: str, member: str) -> Object:
    return _object({name: {"type": "array", "items": _reference(member)}})


def _object(properties: Object) -> Object:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _batch() -> Object:
    return {"type": "array", "minItems": 1, "maxItems": BATCH_LIMIT, "items": _reference("NewTask")}


def _new_task(schema: Object, types: Sequence[str], queues: Sequence[str]) -> Object:
    """With what Intake checks beyond the struct: the types and queues of this service, and run_at against delay."""
    schema["properties"] |= {"type": {"enum": list(types)}, "queue": {"enum": list(queues)}}
    return schema | {"not": {"required": ["run_at", "delay"]}}


def _new_schedule(schema: Object, types: Sequence[str], queues: Sequence[str]) -> Object:
    """With what is checked beyond the struct; not all that a cron line has to be."""
    schema["properties"] |= {"type": {"enum": list(types)}, "queue": {"enum": [*queues, None]}}
    return schema


def _sent(schema: Object) -> Object:
    """The schema of what the service sends: all members are there, and a later release may add others."""
    return schema | {"required": list(schema["properties"]), "additionalProperties": True}


def _task_type() -> Object:
    return _object(
        {
            "type": TEXT,
            "description": TEXT,
            "queue": TEXT,
            "max_attempts": {"type": "integer"},
            "timeout": {"type": ["number", "null"]},
            "priority": {"enum": list(PRIORITIES)},
            "args": {"type": "object"},
            "secret": {"type": "array", "items": TEXT},
            "unique": {"anyOf": [_reference("Rule"), {"type": "null"}]},
            "limits": {"type": "array", "items": TEXT},
            "process": {"type": "boolean"},
            "paused": OR_PAUSE,
        }
    )


def _log_line() -> Object:
    return _object({"id": TEXT, "at": MOMENT, "level": TEXT, "text": TEXT, "attempt": {"type": "integer"}})


def _attempt() -> Object:
    moment = {"type": ["string", "null"], "format": "date-time"}
    return _object(
        {
            "attempt": {"type": "integer"},
            "runner": {"type": ["string", "null"]},
            "started_at": moment,
            "finished_at": moment,
            "duration": {"type": ["number", "null"]},
            "outcome": {"enum": [*OUTCOMES, None]},
            "error": {"type": ["object", "null"]},
        }
    )


def _types() -> Object:
    """The types, and what waits of others that no runner knows any more."""
    listed = _list_of("types", "TaskType")
    stuck = _object({"type": TEXT, "queue": TEXT, "tasks": {"type": "integer"}, "since": MOMENT})
    listed["properties"]["stuck"] = {"type": "array", "items": stuck}
    listed["required"].append("stuck")
    return listed


def _queue() -> Object:
    counts = {name: {"type": "integer", "minimum": 0} for name in ("waiting", "running", "scheduled")}
    oldest = {"type": ["number", "null"], "description": "for how many seconds the first one has been waiting"}
    return _object({"queue": TEXT, **counts, "oldest": oldest, "paused": OR_PAUSE})


def _limit(rule: Object) -> Object:
    """What it says, and what it does now."""
    count = {"type": "integer", "minimum": 0}
    about = {"types": {"type": "array", "items": TEXT}, "waiting": count, "keys": count, "set": {"type": "boolean"}}
    return _object({"limit": TEXT, **rule["properties"], **about})


def _pause() -> Object:
    text = {"type": ["string", "null"]}
    return _object({"reason": text, "since": MOMENT, "until": MOMENT | {"type": ["string", "null"]}, "by": text})


def _schedule() -> Object:
    text = {"type": ["string", "null"]}
    number = {"type": "number"}
    count = {"type": "integer", "minimum": 0}
    last = _object({"uid": UID, "scheduled_for": MOMENT, "created_at": MOMENT})
    return _object(
        {
            "type": TEXT,
            "args": {"type": "object"},
            "queue": text,
            "cron": text,
            "every": {"type": ["number", "null"]},
            "timezone": TEXT,
            "overlap": {"enum": list(OVERLAPS)},
            "catch_up": number,
            "jitter": number,
            "name": TEXT,
            "source": {"enum": ["api", "code"]},
            "created_at": MOMENT,
            "changed_at": MOMENT,
            "changed_by": text,
            "paused": {"type": "boolean"},
            "waiting": MOMENT | {"type": ["string", "null"]},
            "last": {"anyOf": [last, {"type": "null"}]},
            "fired": count,
            "skipped": count,
            "missed": count,
            "words": TEXT,
            "next": {"type": "array", "items": MOMENT},
            "orphan": {"type": "boolean"},
        }
    )


def _problem() -> Object:
    schema = _object({"type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT})
    schema["properties"] |= {"field": TEXT, "index": {"type": "integer"}, "holder": UID, "failing": {"type": "object"}}
    return schema
