"""The limits, and what waits at them, as the page shows them."""

from flask.testing import FlaskClient

from tests.web.page.conftest import OWN


def test_limits_are_listed_with_what_waits_and_those_that_nobody_has_set(open_page: FlaskClient) -> None:
    rule = {"key": "args.customer", "concurrency": 1, "overrides": {"<b>acme": {"rate": "5/second", "burst": 2}}}
    assert open_page.put("/limits/per-customer", json=rule, headers=OWN).status_code == 201
    uids = [open_page.post("/tasks", json={"type": "bounded"}, headers=OWN).json["uid"] for _ in range(3)]
    shown = open_page.get("/ui/limits").text
    assert (
        "1 at once" in shown
        and "&lt;b&gt;acme: 5/second, 2 at first" in shown
        and "<code>args.customer</code>" in shown
    )
    assert '<td class="number">2</td><td class="number">1</td>' in shown
    assert "not set" in shown and "its types are not limited" in shown  # partner, of bounded.twice

    assert "Waits for" not in open_page.get(f"/ui/tasks/{uids[0]}").text
    assert 'the limit <a href="/ui/limits">per-customer</a>' in open_page.get(f"/ui/tasks/{uids[1]}").text
