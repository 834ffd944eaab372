"""Runs commands in processes of their own, and kills some of them on the way.

The imports are paid for once: this module runs in one fresh process, which forks another for every command.  (Forking
the process of the tests instead would not do: torch refuses a backward pass in the child of a process that has done
one.)
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from spikewright.cli.__main__ import main
from spikewright.train import log
from tests.train.support import experiment

Job = dict[str, Any]
"""`arguments` of the command line, and on request `environment`, and `kill`: see `_arm`."""


def run(*groups: Sequence[Job]) -> list[list[int]]:
    """Run groups of commands, the commands of a group at the same time.

    Returns:
        The exit status of each; minus the signal that killed it.
    """
    command = [sys.executable, "-W", "error", "-m", "tests.train.children", json.dumps(groups)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(kill: dict[str, Any]) -> None:
    """Plan the death of this process: after `batch` [epoch, batch], or when it has written `write` files but one."""
    if "batch" in kill:

        def told(self: log.Silent, epoch: int, batch: int, means: Mapping[str, float]) -> None:
            if [epoch, batch] == kill["batch"]:
                _kill()

        log.Silent.batch = told  # type: ignore[method-assign]
    if "write" in kill:
        left = [kill["write"]]
        fsync = os.fsync

        def synced(handle: int) -> None:
            left[0] -= 1
            if not left[0]:
                _kill()
            fsync(handle)

        os.fsync = synced


def _start(job: Job) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.environ.update(job.get("environment", {}))
        _arm(job.get("kill", {}))
        status = main(job["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _all(groups: Sequence[Sequence[Job]]) -> list[list[int]]:
    torch.set_num_threads(1)
    experiment()  # loads what torch loads late
    ended = []
    for group in groups:
        children = [_start(job) for job in group]
        ended.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    return ended


if __name__ == "__main__":
    print(json.dumps(_all(json.loads(sys.argv[1]))))
