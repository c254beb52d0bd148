"""A Flask view that gives the task to Celery."""

from typing import Any

from flask import Flask, jsonify, request

from bench.peers.celery_app import echo

app = Flask(__name__)


@app.post("/tasks")
def create() -> tuple[Any, int]:
    wanted = request.get_json()
    result = echo.delay(**wanted["args"])
    return jsonify(uid=result.id, type=wanted["type"]), 201
