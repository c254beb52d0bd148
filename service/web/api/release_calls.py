"""The calls of /releases: what the first stage has proved, and the wish to have one of them on the second."""

from flask import Blueprint, request

from service.web import answers
from service.web.answers import Answer
from service.web.api import listing
from service.web.api.release_desk import ReleaseDesk
from service.web.masking import Masking


class ReleaseCalls:
    def __init__(self, *, desk: ReleaseDesk, masking: Masking) -> None:
        self._desk = desk
        self._masking = masking

    def blueprint(self) -> Blueprint:
        calls = Blueprint("releases", __name__, url_prefix="/releases")
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/<id>/promote", view_func=self.promote, methods=["POST"])
        return calls

    def list(self) -> Answer:
        listing.check_names(request.args, ())
        return answers.json(self._desk.described())

    def promote(self, id: str) -> Answer:
        task = self._desk.promote(id)
        return answers.json({"release": id, "task": self._masking.listed(task)}, 202)
