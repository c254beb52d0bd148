"""The least that a Flask view can do with a JSON request."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.post("/tasks")
def create() -> tuple[Any, int]:
    return jsonify(request.get_json()), 201
