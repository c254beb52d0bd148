"""Where task modules are found, and what is said of one that cannot be: as a shell and a release see it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_cli import ROOT, sandbox
from tests.servers import BUSY, eventually
from tests.system.conftest import make_instance, releases  # noqa: F401 - fixtures
from tests.system.instance import Instance
from tests.system.releases import NOT_COPIED, Releases

MakeInstance = Callable[..., Instance]

A_TYPE = "from service import task\n\n\n@task('{name}')\ndef handler(context) -> str:\n    return {value}\n"


def a_type(name: str, value: str = "'mine'") -> str:
    return A_TYPE.format(name=name, value=value)


def a_package(path: Path, text: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "__init__.py").write_text(text)
    return path


# --- what lies in the start folder hides nothing ------------------------------------------------------


def test_a_folder_of_the_teams_does_not_hide_ours(make_instance: MakeInstance) -> None:  # noqa: F811
    instance = make_instance(SANDBOX_TASKS="mine", PYTHONPATH="")
    start_folder = instance.home.parent
    service = a_package(start_folder / "service")
    (start_folder / "random.py").write_text("raise SystemError('this is not the random of Python')")
    (start_folder / "mine.py").write_text(a_type("mine"))
    instance.started(str(Path(sys.executable).with_name("sandbox")), "run")
    uid = instance.create("mine")
    eventually(lambda: instance.succeeded(uid))
    assert instance.task(uid)["result"] == "mine"
    said = [line for line in instance.output.splitlines() if " has a name that is taken: " in line]
    assert len(said) == 2
    assert f"sandbox: {service} has a name that is taken: `import service` finds {ROOT / 'service'}" in said[1]
    assert instance.stop() == 0
    instance.is_gone()


def test_a_release_with_a_folder_of_that_name_runs_what_its_virtualenv_holds(
    make_instance: MakeInstance,  # noqa: F811
    folder: Path,
) -> None:
    """A checkout of the team's: task modules, a folder `service`, a folder `conf`, and a virtualenv with sandbox."""
    release = folder / "release"
    a_package(release / "service")
    (release / "conf").mkdir()
    (release / "conf" / "gunicorn.py").write_text("raise SystemError('this is of another program')")
    (release / "mine.py").write_text(a_type("mine", "__file__"))
    (release / "argparse.py").write_text("raise SystemError('this is not the argparse of Python')")
    a_virtualenv(release / ".venv")
    instance = make_instance(SANDBOX_TASKS="mine", SANDBOX_RELEASE=str(release), PYTHONPATH="")
    (instance.home.parent / "mine.py").write_text("raise SystemError('the release comes first')")
    instance.started(str(Path(sys.executable).with_name("sandbox")), "run")
    uid = instance.create("mine")
    eventually(lambda: instance.succeeded(uid))
    assert instance.task(uid)["result"] == str(release / "mine.py")
    for _ in range(2):  # the second time, the release is the folder in which they are
        runners = instance.kinds()["runner"]
        os.kill(runners[0].pid, signal.SIGHUP)
        eventually(lambda runners=runners: not any(each.alive for each in runners), 20 * BUSY)
    assert instance.stop() == 0


def a_virtualenv(path: Path) -> None:
    """With sandbox, as pip puts it there. What that needs is borrowed from the virtualenv of the tests."""
    site = path / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    (path / "bin").mkdir(parents=True)
    site.mkdir(parents=True)
    (path / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (path / "pyvenv.cfg").write_text(f"home = {Path(os.path.realpath(sys.executable)).parent}\n")
    borrowed = next(entry for entry in sys.path if entry.endswith("site-packages"))
    (site / "borrowed.pth").write_text(f"{borrowed}\n")
    shutil.copytree(ROOT / "service", site / "service", ignore=NOT_COPIED)
    shutil.copytree(ROOT / "conf", site / "service" / "_conf" / "conf")


def test_types_lists_what_the_release_has(folder: Path, releases: Releases) -> None:  # noqa: F811
    release = releases.make("one")
    (release.path / "mine.py").write_text(a_type("of-the-release"))
    listed = sandbox("types", SANDBOX_TASKS="mine", SANDBOX_RELEASE=str(release.path), cwd=folder)
    assert (listed.stdout, listed.stderr) == ("of-the-release\tdefault\n", "")
    checked = sandbox("check", SANDBOX_TASKS="mine", SANDBOX_RELEASE=str(release.path), cwd=folder)
    assert (checked.stdout, checked.stderr) == ("all is well: 1 type, queues default\n", "")


def test_types_lists_what_lies_in_the_start_folder(folder: Path) -> None:
    (folder / "mine.py").write_text(a_type("of-the-folder"))
    assert sandbox("types", SANDBOX_TASKS="mine", cwd=folder).stdout == "of-the-folder\tdefault\n"


def test_what_comes_first_among_copies(folder: Path) -> None:
    """PYTHONPATH, the release, the start folder."""
    release = folder / "release"
    a_virtualenv(release / ".venv")
    for place in (folder / "path", release, folder / "start"):
        place.mkdir(exist_ok=True)
        (place / "mine.py").write_text(a_type(place.name))

    def found() -> str:
        return sandbox(
            "types",
            SANDBOX_TASKS="mine",
            SANDBOX_RELEASE=str(release),
            PYTHONPATH=f"{ROOT}{os.pathsep}{folder / 'path'}",
            cwd=folder / "start",
        ).stdout.partition("\t")[0]

    for place in (folder / "path", release, folder / "start"):
        assert found() == place.name
        (place / "mine.py").unlink()


@pytest.mark.parametrize("word", ["check", "types"])
def test_a_start_folder_that_has_gone_holds_nothing(folder: Path, word: str) -> None:
    gone = str(folder / "gone")
    done = sandbox(word, SANDBOX_TASKS="service.builtin.demo", SANDBOX_STARTED_IN=gone, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_has_gone_while_one_is_in_it_is_told_in_a_line(folder: Path) -> None:
    script = f'mkdir gone && cd gone && rmdir ../gone && PYTHONPATH={ROOT} exec "$@"'
    words = (sys.executable, "-P", "-m", "service.cli", "check")
    done = subprocess.run(("sh", "-c", script, "sh", *words), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sandbox: the folder that this command is typed in has gone. `cd` to one that is there.\n"


# --- what is said -------------------------------------------------------------------------------------


def refused(folder: Path, *words: str, **variables: str) -> str:
    done = sandbox(*words or ("check",), SANDBOX_TASKS="mine", cwd=folder, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    return line


def test_a_bad_import_names_the_file_and_the_line(folder: Path) -> None:
    (folder / "mine.py").write_text("\nimport more\n")
    (folder / "more.py").write_text("import nowhere\n")
    line = refused(folder)
    assert line == (
        "sandbox: SANDBOX_TASKS is 'mine', which cannot be loaded: "
        f"ModuleNotFoundError: No module named 'nowhere' ({folder}/more.py, line 1)"
    )
    (folder / "more.py").write_text("\n\ndef (:\n")
    assert refused(folder).endswith(f"SyntaxError: invalid syntax ({folder}/more.py, line 3)")
    (folder / "more.py").write_text("import json\n\njson.loads('{')\n")
    assert refused(folder).endswith(f" ({folder}/more.py, line 3)")


@pytest.mark.parametrize("word", ["check", "types", "run"])
def test_a_module_that_exits_cannot_be_loaded(folder: Path, word: str) -> None:
    (folder / "mine.py").write_text("import sys\nsys.exit('SHOP_DB is not set')\n")
    said = f"sandbox: SANDBOX_TASKS is 'mine', which cannot be loaded: SystemExit: %s ({folder}/mine.py, line 2)"
    assert refused(folder, word, SANDBOX_HOME=str(folder / "home")) == said % "SHOP_DB is not set"
    (folder / "mine.py").write_text("import sys\nsys.exit(0)\n")
    assert refused(folder, word, SANDBOX_HOME=str(folder / "home")) == said % "0"


def test_a_module_that_ends_the_process_is_named(folder: Path) -> None:
    (folder / "mine.py").write_text("import os\nos._exit(4)\n")
    assert refused(folder) == "sandbox: mine ended the process that loaded it: exit code 4"


def test_a_check_ends_whatever_threads_a_module_starts(folder: Path) -> None:
    thread = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    (folder / "mine.py").write_text(thread)
    done = sandbox("check", SANDBOX_TASKS="mine", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "all is well: 0 types, queues default\n")
    (folder / "mine.py").write_text(f"{thread}import nowhere\n")
    assert "No module named 'nowhere'" in refused(folder)


def test_a_module_that_is_nowhere_is_told_with_where_it_was_looked_for(folder: Path) -> None:
    assert refused(folder).endswith(f"No module named 'mine'; the last that were looked into are {ROOT} and {folder}")


def test_a_module_that_is_named_as_its_file_is_told_so(folder: Path) -> None:
    (folder / "mine.py").touch()
    done = sandbox("check", SANDBOX_TASKS="mine.py", cwd=folder)
    assert done.stderr.endswith(". mine.py is the name of a file; its module is mine\n")


def test_two_handlers_of_one_name_are_told_without_where_modules_are_looked_for(folder: Path) -> None:
    (folder / "mine.py").write_text(a_type("greet") + a_type("greet").replace("def handler", "def other"))
    assert refused(folder).endswith("two handlers serve greet: mine.handler and mine.other")


def test_an_error_that_fails_to_say_what_it_is_about_is_told_with_its_class(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\n\n\nraise Odd\n"
    )
    assert refused(folder) == (
        "sandbox: SANDBOX_TASKS is 'mine', which cannot be loaded: "
        f"Odd: its text cannot be made (ValueError) ({folder}/mine.py, line 6)"
    )


def test_one_type_is_counted_as_one(folder: Path) -> None:
    (folder / "mine.py").write_text(a_type("mine"))
    assert sandbox("check", SANDBOX_TASKS="mine", cwd=folder).stdout == "all is well: 1 type, queues default\n"


def test_a_module_without_types_is_told(folder: Path) -> None:
    (a_package(folder / "mine", "from mine import letters\n") / "letters.py").write_text(a_type("letters.send"))
    done = sandbox("check", SANDBOX_TASKS="mine", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "all is well: 0 types, queues default\n")
    [line] = done.stderr.splitlines()
    assert line.startswith("sandbox: SANDBOX_TASKS names 'mine', which has no task types. ")
    assert sandbox("check", SANDBOX_TASKS="mine.letters", cwd=folder).stderr == ""


def test_a_module_whose_name_is_taken_is_told_with_what_took_it(folder: Path) -> None:
    (folder / "mine.py").write_text("import service.database\n")
    (a_package(folder / "service") / "database.py").touch()
    done = sandbox("run", SANDBOX_TASKS="mine", SANDBOX_HOME=str(folder / "home"), cwd=folder)
    [line] = done.stderr.splitlines()
    assert f"No module named 'service.database' ({folder}/mine.py, line 1). {folder}/service has a name " in line


def test_a_bad_import_in_a_release_names_the_teams_file(
    make_instance: MakeInstance,  # noqa: F811
    releases: Releases,  # noqa: F811
) -> None:
    for name, text in (("one", a_type("mine")), ("two", "import nowhere\n")):
        (releases.make(name).path / "mine.py").write_text(text)
    releases.switch(releases.make("one"))
    instance = make_instance(SANDBOX_RELEASE=str(releases.link), SANDBOX_TASKS="mine").started()
    two = releases.make("two")
    releases.switch(two)
    for watcher in ("sandbox-runner", "sandbox"):
        answer = instance.ask("reload", watcher)
        assert answer.returncode == 3
        assert f"No module named 'nowhere' ({two.path}/mine.py, line 1)" in answer.stderr


def test_a_parameter_that_cannot_come_from_json_is_named_with_its_task(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "from service import task\n\n\nclass Foo: ...\n\n\n"
        "@task('shop.sell')\ndef sell(context, many: int, what: Foo): ...\n"
    )
    line = refused(folder, "run", SANDBOX_HOME=str(folder / "home"))
    assert "shop.sell: the parameter what cannot come from JSON: type <class 'mine.Foo'> is not supported" in line
    assert f"({folder}/mine.py, line 7)" in line


def test_an_annotation_that_names_nothing_is_told_with_its_task(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "from service import task\n\n\n@task('shop.sell')\ndef sell(context, what: 'Foo'): ...\n"
    )
    assert "shop.sell: an annotation cannot be read: NameError: name 'Foo' is not defined" in refused(folder)


def test_a_queue_that_no_runner_serves_refuses_the_start(folder: Path) -> None:
    (folder / "mine.py").write_text(a_type("mine").replace("'mine')", "'mine', queue='side')", 1))
    for word in ("check", "run"):
        line = refused(folder, word, SANDBOX_HOME=str(folder / "home"))
        assert line == (
            "sandbox: SANDBOX_QUEUES is 'default', which lacks 'side', where tasks of the type mine would wait. "
            "Add it, or leave the type out of SANDBOX_TASKS."
        )
    served = sandbox("check", SANDBOX_TASKS="mine", SANDBOX_QUEUES="default,side", cwd=folder)
    assert (served.returncode, served.stderr) == (0, "")


def test_without_a_queue_named_default_the_first_one_takes_its_place(folder: Path) -> None:
    (folder / "mine.py").write_text(a_type("mine"))
    checked = sandbox("check", SANDBOX_TASKS="mine", SANDBOX_QUEUES="urgent,later", cwd=folder)
    assert (checked.returncode, checked.stderr) == (0, "")
    types = sandbox("types", SANDBOX_TASKS="mine", SANDBOX_QUEUES="urgent,later", cwd=folder)
    assert types.stdout == "mine\turgent\n"


def test_a_queue_that_no_runner_serves_refuses_a_reload(
    make_instance: MakeInstance,  # noqa: F811
    releases: Releases,  # noqa: F811
) -> None:
    (releases.make("one").path / "mine.py").write_text(a_type("mine"))
    releases.switch(releases.make("one"))
    instance = make_instance(SANDBOX_RELEASE=str(releases.link), SANDBOX_TASKS="mine").started()
    (releases.make("two").path / "mine.py").write_text(a_type("mine").replace("'mine')", "'mine', queue='side')", 1))
    releases.switch(releases.make("two"))
    for watcher in ("sandbox-runner", "sandbox"):
        answer = instance.ask("reload", watcher)
        assert answer.returncode == 3
        assert "which lacks 'side', where tasks of the type mine would wait" in answer.stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SANDBOX_WEB_WOKERS", "SANDBOX_WEB_WORKERS"),
        ("SANDBOX_TASK", "SANDBOX_TASKS"),
        ("SENTRY_DNS", "SENTRY_DSN"),
        ("SENTRY_ENV", "SENTRY_ENVIRONMENT"),
        ("STATSD_PREFX", "STATSD_PREFIX"),
        ("REDIS_URI", "REDIS_URL"),
        ("GRAPHITE_URI", "GRAPHITE_URL"),
    ],
)
def test_a_setting_that_is_misspelt_is_told_once_with_the_right_name(folder: Path, name: str, meant: str) -> None:
    checked = sandbox("check", cwd=folder, **{name: "3"})
    assert checked.stderr == f"sandbox: {name} is set, but is no setting; {meant} is one.\n"


def test_what_the_client_is_told_is_no_slip_but_a_wrong_value_under_its_name_is(folder: Path) -> None:
    clients = {"SANDBOX_URL": "http://127.0.0.1:9", "SANDBOX_TOKEN": "sbx_" + "a" * 43}
    assert sandbox("check", cwd=folder, **clients).stderr == ""
    meant = "sandbox: SANDBOX_TOKEN is set, but is no setting; SANDBOX_TOKENS is one.\n"
    assert sandbox("check", cwd=folder, SANDBOX_TOKEN="var/tokens").stderr == meant


@pytest.mark.parametrize("name", ["sandbox.retry", "sandbox.cancel"])
@pytest.mark.parametrize("command", ["check", "runner"])
def test_a_type_with_a_name_of_ours_is_refused_in_words(folder: Path, command: str, name: str) -> None:
    code = f"from service import task\n\n@task({name!r})\ndef again(context): ...\n"
    (folder / "ours.py").write_text(code)
    answer = sandbox(command, cwd=folder, SANDBOX_TASKS="ours")
    assert answer.returncode != 0
    assert f"SANDBOX_TASKS has the type {name} (ours.again), a name that sandbox keeps" in answer.stderr
    assert "Give the type another name." in answer.stderr


def test_other_programs_settings_are_none_of_ours(folder: Path) -> None:
    others = ("SANDBOX_URL_OF_MY_SHOP", "REDIS_HOST", "REDIS_PORT", "SENTRY_AUTH_TOKEN", "SENTRY_ORG", "STATSD_SAMPLE")
    assert sandbox("check", cwd=folder, **dict.fromkeys(others, "3")).stderr == ""


def test_a_start_says_each_warning_once(make_instance: MakeInstance) -> None:  # noqa: F811
    instance = make_instance(SANDBOX_WEB_WOKERS="3", SENTRY_DNS="x").started()
    assert instance.output.count("SANDBOX_WEB_WOKERS is set") == 1
    assert instance.output.count("SENTRY_DNS is set") == 1
