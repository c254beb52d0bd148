"""GET /openapi.json."""
from collections.abc import Sequence
from flask import Blueprint
from service.registry import Registry
def blueprint(registry: Registry, queues: Sequence[str]) -> Blueprint:
    return Blueprint("openapi", __name__)
