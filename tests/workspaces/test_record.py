"""The folder of records: what is written is there, whole, and one works on it at a time."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.tasks import moments
from service.workspaces import names, record
from service.workspaces.record import Shelf, TooManyWorkspaces, UnknownWorkspace, UnreadableRecord, WorkspaceBusy
from tests.servers import eventually

HOLDS = """
import sys, time, pathlib
from service.workspaces.record import Shelf
with Shelf(pathlib.Path(sys.argv[1])).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""
ASKS = """
import gevent.monkey
gevent.monkey.patch_all()
import sys, pathlib, gevent
from service.workspaces.record import Shelf
shelf = Shelf(pathlib.Path(sys.argv[1]))
asked = [gevent.spawn(shelf.request, email, most=10, most_building=10) for email in sys.argv[2:]]
print("asked", flush=True)
gevent.joinall(asked)
print(*(request.get()[0].email for request in asked))
"""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "records")


def request(shelf: Shelf, email: str, most: int = 10, most_building: int = 10) -> tuple[record.Workspace, bool]:
    return shelf.request(email, most=most, most_building=most_building)


def test_an_email_has_one_record(shelf: Shelf) -> None:
    made, is_new = request(shelf, "Jo@example.org")
    again, is_new_again = request(shelf, "jo@example.org")
    assert (is_new, is_new_again) == (True, False)
    assert made == again == shelf.get(made.slug)
    assert (made.state, made.branch, made.generation) == ("requested", "jo@example.org", 1)


def test_what_another_release_wrote_survives(shelf: Shelf, tmp_path: Path) -> None:
    made, _ = request(shelf, "jo@example.org")
    file = tmp_path / "records" / f"{made.slug}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"later": {"a": 1}}))
    with shelf.lock(made.slug):
        shelf.write(shelf.get(made.slug))
    assert json.loads(file.read_text())["later"] == {"a": 1}


def test_a_tombstone_is_not_listed_and_makes_room(shelf: Shelf) -> None:
    made, _ = request(shelf, "jo@example.org", most=1)
    with pytest.raises(TooManyWorkspaces, match="as many as allowed"):
        request(shelf, "al@example.org", most=1)
    made.state = record.DELETED
    with shelf.lock(made.slug):
        shelf.write(made)
    assert shelf.all() == [] and len(shelf.all(tombstones=True)) == 1
    with pytest.raises(UnknownWorkspace):
        shelf.get(made.slug)
    again, is_new = request(shelf, "jo@example.org", most=1)
    assert (again.generation, is_new) == (2, True)


def test_so_many_are_built_at_a_time(shelf: Shelf) -> None:
    request(shelf, "jo@example.org", most_building=1)
    with pytest.raises(TooManyWorkspaces) as refused:
        request(shelf, "al@example.org", most_building=1)
    assert refused.value.retry_after


def test_one_whose_task_was_lost_is_not_counted_as_being_built(shelf: Shelf, tmp_path: Path) -> None:
    made, _ = request(shelf, "jo@example.org", most_building=1)
    file = tmp_path / "records" / f"{made.slug}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"changed_at": moments.stamp(time.time() - 3700)}))
    assert request(shelf, "al@example.org", most_building=1)[1]


def test_a_lock_is_freed_by_death(shelf: Shelf, tmp_path: Path) -> None:
    made, _ = request(shelf, "jo@example.org")
    words = [sys.executable, "-c", HOLDS, str(tmp_path / "records"), made.slug]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceBusy), shelf.lock(made.slug):
            pass
        with pytest.raises(WorkspaceBusy), shelf.lock(made.slug, 0.2):
            pass
        assert request(shelf, "jo@example.org") == (made, False)  # it is read all the same
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

    def is_free() -> bool:
        with shelf.lock(made.slug):
            return True

    assert eventually(is_free)


def test_greenlets_that_ask_while_somebody_holds_a_lock_do_not_wait_for_each_other(
    shelf: Shelf, tmp_path: Path
) -> None:
    """A thread that waits in the kernel runs no other greenlet: nor the one that is to free what it waits for."""
    emails = ["jo@example.org", "al@example.org"]
    words = [sys.executable, "-c", ASKS, str(tmp_path / "records"), *emails]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as asking:
        try:
            with shelf.lock(names.slug(emails[0])):
                assert asking.stdout is not None and asking.stdout.readline() == "asked\n"
                eventually(lambda: shelf.read(names.slug(emails[1])))
            assert asking.communicate(timeout=60)[0].split() == emails
        finally:
            asking.kill()


def test_who_asks_while_another_one_makes_it_gets_it(shelf: Shelf) -> None:
    """And does not wait for what is at work on it by then."""
    made, _ = request(shelf, "jo@example.org")
    made.state = record.DELETED
    with ThreadPoolExecutor(1) as threads, shelf.lock(made.slug):
        shelf.write(made)
        asking = threads.submit(request, shelf, "jo@example.org")
        with pytest.raises(TimeoutError):
            asking.result(timeout=0.2)
        made.state = record.REQUESTED
        shelf.write(made)
        assert asking.result(timeout=60) == (made, False)


def test_what_cannot_be_read_is_named_and_hides_no_other(shelf: Shelf, tmp_path: Path) -> None:
    made, _ = request(shelf, "jo@example.org")
    broken = names.slug("al@example.org")
    (tmp_path / "records" / f"{broken}.json").write_text("{")
    with pytest.raises(UnreadableRecord, match=broken):
        shelf.read(broken)
    assert shelf.all() == [made]


@pytest.mark.parametrize("slug", ["../x", "", "w-a", "/etc/passwd"])
def test_no_other_file_is_read(shelf: Shelf, slug: str) -> None:
    assert shelf.read(slug) is None


@pytest.mark.parametrize(
    "slug", ["/../../evil", "../x", "", "w-jo", "W-jo-mddsfpmq", "w-jo-mddsfpmq/", "w-jo-mddsfpmq\n"]
)
def test_what_is_no_name_of_a_workspace_makes_no_lock(shelf: Shelf, tmp_path: Path, slug: str) -> None:
    with pytest.raises(UnknownWorkspace), shelf.lock(slug):
        pass
    assert list(tmp_path.iterdir()) == []
