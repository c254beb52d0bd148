"""A Django project, from an email to its page, and away again without a trace."""

import os

from tests.servers import eventually
from tests.workspaces.yard import EMAIL, SLUG, Yard


def test_an_email_becomes_a_running_copy_and_goes_without_a_trace(yard: Yard) -> None:
    yard.places.shared_media.mkdir(parents=True)
    (yard.places.shared_media / "lamp.svg").write_text("<svg/>")

    shown = yard.done("create", email="Jo@example.org")
    assert (shown["state"], shown["slug"], shown["branch"]) == ("ready", SLUG, EMAIL)
    assert shown["address"] == f"http://{SLUG}.localhost:{yard.port}/"
    status, page = yard.get()
    assert status == 200 and "a lamp" in page
    assert "font" in yard.get("/static/shop.css")[1]
    assert yard.get("/media/lamp.svg") == (200, "<svg/>")
    assert yard.branches()[EMAIL] == yard.branches()["main"]
    env = yard.home().env
    assert env.stat().st_mode & 0o777 == 0o640 and "SECRET_KEY=\n" not in env.read_text()
    assert shown["unpushed"] == [] and "DEBUG=1" in env.read_text()

    template = yard.home().code / "shop" / "templates" / "shop.html"
    template.write_text(template.read_text().replace("The shop", "My shop"))
    eventually(lambda: "My shop" in yard.get()[1], 60)

    assert "uncommitted:  M shop/templates/shop.html" in yard.refused("delete", slug=SLUG)
    assert yard.record().state == "ready" and "My shop" in yard.get()[1]
    gone = yard.done("delete", slug=SLUG, force=True)
    assert gone["state"] == "deleted"
    assert list(yard.branches()) == ["main"]
    assert os.listdir(yard.places.homes) == os.listdir(yard.places.sockets) == []
    assert (yard.places.shared_media / "lamp.svg").exists()
    assert yard.get()[0] in (404, 502)
    assert yard.done("delete", slug=SLUG)["state"] == "deleted"
