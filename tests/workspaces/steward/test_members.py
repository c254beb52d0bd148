"""Who can be a member of a workspace, and what a member does not become by that."""

from tests.workspaces.steward.stage import MINE, StewardHost


def test_a_login_is_a_persons_and_may_have_a_dot(host: StewardHost) -> None:
    host.do("make_user")
    host.host.run("useradd", "--badname", "jo.smith")
    host.host.run("useradd", "--uid", "61500", "of-systemd")
    try:
        host.do("grant", login="jo.smith")
        assert MINE in host.host.sh("id -Gn jo.smith").split()
        host.do("revoke", login="jo.smith")
        assert MINE not in host.host.sh("id -Gn jo.smith").split()
        for login in ("nobody", "of-systemd"):
            assert "no person's" in str(host.answers({"verb": "grant", "slug": MINE, "login": login})), login
        for login in (".", "..", ".jo", "jo/smith", "jo smith"):
            assert "must be" in str(host.answers({"verb": "grant", "slug": MINE, "login": login})), login
    finally:
        host.host.run("userdel", "jo.smith")
        host.host.run("userdel", "of-systemd")
