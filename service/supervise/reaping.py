"""How circusd learns with what code a child of it has ended, a release on trial among them.

circus waits for any child, and drops the code of one that is not in a watcher's `processes`; whoever asks for it later
reads 0. A refusal tells how a process on trial has ended, so its code is left to it.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any


def reap_processes(_: object) -> Callable[[Any], None]:
    def reap_processes(arbiter: Any) -> None:
        watchers = [watcher for watcher in arbiter.iter_watchers() if not watcher.is_stopped()]
        counted = {pid: watcher for watcher in watchers for pid in watcher.processes}
        on_trial = {process.pid: process for watcher in watchers for process in watcher.on_trial_now}
        with contextlib.suppress(ChildProcessError):  # there is none
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                pid = ended.si_pid
                process = on_trial.pop(pid, None)  # its pid may be another child's by then
                if process is not None and not process.is_alive():
                    continue  # it has noted its code, now or before
                _, status = os.waitpid(pid, os.WNOHANG)
                if pid in counted:
                    counted[pid].reap_process(pid, status)

    return reap_processes
