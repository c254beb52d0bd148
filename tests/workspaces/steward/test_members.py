"""Who can be a member of a workspace, and what a member does not become by that."""

from tests.workspaces.steward.stage import BASE, MINE, StewardHost


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


def test_a_member_does_not_become_the_workspaces_user_by_a_file_of_its(host: StewardHost) -> None:
    host.project(**{"README": "a project"})
    host.build()
    host.do("grant", login="jo")
    file = f"{BASE}/w/{MINE}/code/whoever"
    as_its_user = ("setpriv", f"--reuid={MINE}", f"--regid={MINE}", "--clear-groups", "sh", "-c")
    host.host.run(*as_its_user, f"cp /usr/bin/id {file}; chmod 6775 {file}")
    assert host.host.sh(f"setpriv --reuid=jo --regid=jo --init-groups {file} -un") == "jo"
    mounts = host.host.sh("cat /proc/self/mounts")
    host.stop_steward("KILL")
    host.start_steward()
    assert host.host.sh("cat /proc/self/mounts") == mounts
