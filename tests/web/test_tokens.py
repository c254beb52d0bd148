import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.errors import InvalidToken
from service.web import auth, token_file
from service.web.app import Web
from service.web.auth import Tokens
from service.web.token_file import Token
from tests.full_disk import no_room
from tests.servers import eventually

ECHO = {"type": "echo"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def guarded(make_app: Callable[..., Web], path: Path) -> FlaskClient:
    return make_app(tokens=Tokens(path)).test_client()


def bearer(secret: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"} | more


def test_a_token_is_shown_once_and_kept_as_a_hash(path: Path) -> None:
    secret = token_file.add(path, "ci", "write")
    assert secret.startswith("sbx_") and len(secret) == 4 + 43
    assert path.read_text() == f"ci write {hashlib.sha256(secret.encode()).hexdigest()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_tokens_are_added_listed_and_removed_and_comments_stay(path: Path) -> None:
    path.write_text("# of the build machines\n\n")
    token_file.add(path, "ci", "write")
    token_file.add(path, "board", "read")
    assert [(token.name, token.scope) for token in token_file.read(path)] == [("ci", "write"), ("board", "read")]
    token_file.remove(path, "ci")
    assert [token.name for token in token_file.read(path)] == ["board"]
    assert path.read_text().startswith("# of the build machines\n\n")


@pytest.mark.parametrize(
    ("name", "scope"), [("ci", "read"), ("a b", "read"), ("", "read"), ("#x", "read"), ("x", "admin")]
)
def test_a_wrong_name_or_scope_is_refused(path: Path, name: str, scope: str) -> None:
    token_file.add(path, "ci", "write")
    before = path.read_text()
    with pytest.raises(InvalidToken):
        token_file.add(path, name, scope)
    assert path.read_text() == before


def test_removing_what_is_not_there_is_refused(path: Path) -> None:
    with pytest.raises(InvalidToken, match="no token ci"):
        token_file.remove(path, "ci")


@pytest.mark.parametrize(
    "line", ["ci", "ci write", "ci write abc", "ci admin " + "0" * 64, "ci write " + "0" * 64 + " x"]
)
def test_a_broken_line_is_named(path: Path, line: str) -> None:
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(InvalidToken, match=f"{path}, line 2"):
        token_file.read(path)


def test_two_who_add_at_once_lose_nothing(path: Path) -> None:
    threads = [threading.Thread(target=token_file.add, args=(path, f"t{number}", "read")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in token_file.read(path)} == {f"t{number}" for number in range(8)}


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
def test_nobody_else_can_open_the_lock_and_so_hold_up_a_change(path: Path) -> None:
    lock = path.with_name(f".{path.name}.lock")
    token_file.add(path, "ci", "read")
    assert lock.stat().st_mode & 0o777 == 0o600
    lock.chmod(0o644)  # as earlier releases made it
    token_file.remove(path, "ci")
    assert lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_cannot_be_opened_is_told(path: Path) -> None:
    path.with_name(f".{path.name}.lock").symlink_to("/dev/null")
    with pytest.raises(InvalidToken, match=r"\.lock cannot be used: .*; change the tokens as the user who owns it"):
        token_file.add(path, "ci", "read")


def test_a_full_disk_is_told_with_the_file_and_the_tokens_stay(path: Path) -> None:
    token_file.add(path, "ci", "read")
    before = path.read_text()
    told = f"^{path} cannot be written: File too large; nothing has changed$"
    with no_room(), pytest.raises(InvalidToken, match=told):
        token_file.add(path, "board", "read")
    assert path.read_text() == before
    assert {file.name for file in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer sbx_wrong", "Bearer \xff", "x" * 5000]
)
def test_a_missing_or_wrong_token_is_a_401(guarded: FlaskClient, path: Path, sent: str | None) -> None:
    token_file.add(path, "ci", "write")
    for call in (guarded.get, guarded.post, guarded.delete):
        answer = call("/tasks", headers={} if sent is None else {"Authorization": sent})
        assert (answer.status_code, answer.content_type) == (401, "application/problem+json")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_without_any_token_nobody_is_let_in(guarded: FlaskClient) -> None:
    assert guarded.get("/tasks").status_code == 401


def test_reading_needs_read_and_writing_needs_write(guarded: FlaskClient, path: Path) -> None:
    reader, writer = bearer(token_file.add(path, "board", "read")), bearer(token_file.add(path, "ci", "write"))
    refused = guarded.post("/tasks", json=ECHO, headers=reader)
    assert (refused.status_code, refused.content_type) == (403, "application/problem+json")
    created = guarded.post("/tasks", json=ECHO, headers=writer)
    assert created.status_code == 201
    location = created.headers["Location"]
    assert guarded.get(location, headers=reader).status_code == guarded.get(location, headers=writer).status_code == 200
    assert guarded.delete(location, headers=reader).status_code == 403
    assert guarded.post(f"{location}/retry", headers=reader).status_code == 403


def test_the_word_bearer_may_be_written_in_any_case(guarded: FlaskClient, path: Path) -> None:
    secret = token_file.add(path, "board", "read")
    assert guarded.get("/tasks", headers={"Authorization": f"bearer {secret}"}).status_code == 200


def test_health_needs_no_token(guarded: FlaskClient, path: Path) -> None:
    token_file.add(path, "board", "read")
    assert guarded.get("/health/live").status_code == guarded.get("/health/ready").status_code == 200


def test_the_file_is_read_again_when_it_changes(guarded: FlaskClient, path: Path) -> None:
    headers = bearer(token_file.add(path, "board", "read"))
    assert guarded.get("/tasks", headers=headers).status_code == 200
    token_file.remove(path, "board")
    assert guarded.get("/tasks", headers=headers).status_code == 401


def test_a_file_that_was_spoilt_leaves_the_tokens_in_force(guarded: FlaskClient, path: Path) -> None:
    headers = bearer(token_file.add(path, "board", "read"))
    assert guarded.get("/tasks", headers=headers).status_code == 200
    path.write_text("nonsense\n")
    assert guarded.get("/tasks", headers=headers).status_code == 200


def test_a_process_that_knows_no_tokens_because_of_their_file_is_not_ready(guarded: FlaskClient, path: Path) -> None:
    path.write_text("b  wrte  xyz\n")
    answer = guarded.get("/health/ready")
    assert (answer.status_code, list(answer.json["failing"])) == (503, ["callers"])
    assert "wrte" not in answer.text and "xyz" not in answer.text
    path.write_text("")
    assert guarded.get("/health/ready").status_code == 200
    path.write_text("b  wrte  xyz\n")
    assert guarded.get("/health/ready").status_code == 200


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("nonsense\n")], ids=["gone", "spoilt"])
def test_a_process_that_knows_no_tokens_refuses_nobodys(
    guarded: FlaskClient, path: Path, spoil: Callable[[Path], object]
) -> None:
    headers = bearer(token_file.add(path, "board", "read"))
    text = path.read_text()
    spoil(path)
    for asked in (headers, bearer("sbx_unknown")):
        answer = guarded.get("/tasks", headers=asked)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert guarded.get("/tasks").status_code == 401
    path.write_text(text)
    assert guarded.get("/tasks", headers=headers).status_code == 200
    assert guarded.get("/tasks", headers=bearer("sbx_unknown")).status_code == 401


def test_a_file_that_is_gone_takes_no_token_away(guarded: FlaskClient, path: Path) -> None:
    known = bearer(token_file.add(path, "known", "read"))
    assert guarded.get("/tasks", headers=known).status_code == 200
    path.rename(path.with_name("elsewhere"))
    assert guarded.get("/tasks", headers=known).status_code == 200
    with pytest.raises(InvalidToken, match="no tokens are known"):
        Tokens(path).check()


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    guarded: FlaskClient, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    former = bearer(token_file.add(path, "former", "read"))
    assert guarded.get("/tasks", headers=former).status_code == 200
    token_file.remove(path, "former")

    def denied(path: Path) -> list[Token]:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(auth, "read", denied)
        assert guarded.get("/tasks", headers=former).status_code == 200
    assert guarded.get("/tasks", headers=former).status_code == 401
    said = [record for record in caplog.records if record.name == auth.__name__]
    assert [record.__dict__["once"] for record in said] == ["tokens"]


def test_a_change_is_seen_that_leaves_size_and_time_as_they_were(guarded: FlaskClient, path: Path) -> None:
    headers = bearer(token_file.add(path, "board", "read"))
    assert guarded.get("/tasks", headers=headers).status_code == 200
    before = path.stat()
    path.write_text("#" + path.read_text()[1:])

    def disguised() -> bool:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return path.stat().st_ctime_ns != before.st_ctime_ns  # the file system's clock is coarse

    eventually(disguised)
    assert guarded.get("/tasks", headers=headers).status_code == 401


def test_a_changed_file_keeps_its_place_owner_and_mode(tmp_path: Path, path: Path) -> None:
    file = tmp_path / "elsewhere" / "tokens"
    token_file.add(file, "ci", "write")
    owner = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *owner)
    file.chmod(0o640)
    path.symlink_to(file)
    token_file.add(path, "board", "read")
    status = file.stat()
    assert path.is_symlink()
    assert [token.name for token in token_file.read(file)] == ["ci", "board"]
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (*owner, 0o640)


def test_each_caller_has_keys_of_its_own(guarded: FlaskClient, path: Path) -> None:
    first, second = (token_file.add(path, name, "write") for name in ("a", "b"))
    answers = [
        guarded.post("/tasks", json=ECHO, headers=bearer(secret, **{"Idempotency-Key": "k"}))
        for secret in (first, second, first)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 200]
    assert answers[0].json["uid"] == answers[2].json["uid"] != answers[1].json["uid"]


def test_a_task_says_whose_token_created_it_and_the_list_goes_by_it(
    guarded: FlaskClient, client: FlaskClient, path: Path
) -> None:
    alice, bob = (bearer(token_file.add(path, name, "write")) for name in ("alice", "bob"))
    made = [guarded.post("/tasks", json=ECHO, headers=who).json for who in (alice, bob, alice, bob, alice)]
    nobodys = client.post("/tasks", json=ECHO).json
    assert [document["created_by"] for document in (*made, nobodys)] == ["alice", "bob", "alice", "bob", "alice", None]
    assert guarded.get(f"/tasks/{made[0]['uid']}", headers=bob).json["created_by"] == "alice"
    guarded.delete(f"/tasks/{made[2]['uid']}", headers=bob)

    def listed(query: str) -> list[int]:
        found: list[int] = []
        page = {"next": ""}
        while page["next"] is not None:
            cursor = f"&cursor={page['next']}" if page["next"] else ""
            page = client.get(f"/tasks?limit=1&{query}{cursor}").json
            assert len(page["tasks"]) <= 1
            found += [made.index(document | {"status": "queued", "finished_at": None}) for document in page["tasks"]]
        return found

    assert listed("created_by=alice") == [4, 2, 0]
    assert listed("created_by=alice&status=queued&type=echo") == [4, 0]
    assert listed("created_by=bob&queue=default") == [3, 1]
    assert listed("created_by=carol") == []


def test_an_idempotent_resend_shows_who_created_the_task(guarded: FlaskClient, path: Path) -> None:
    alice = bearer(token_file.add(path, "alice", "write"), **{"Idempotency-Key": "k"})
    batch = [guarded.post("/tasks/batch", json=[ECHO], headers=alice) for _ in range(2)]
    assert [answer.status_code for answer in batch] == [201, 200]
    assert batch[0].json == batch[1].json
    assert batch[0].json["tasks"][0]["created_by"] == "alice"
