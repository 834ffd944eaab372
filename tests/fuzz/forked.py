"""Work in children of one process that has paid for the imports, each with limits of time and memory.

The parent never computes a gradient: torch refuses a backward pass in the child of a process that has done one.
"""

import io
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

SECONDS = 20.0
"""Processor time that a child may take, in seconds; the deepest networks need 10."""
WAIT = 120.0
"""Time on the clock after which a child hangs, in seconds; other work may slow the machine down."""
MEMORY = 3 << 30
"""Bytes that a child may take beyond what the parent has."""


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit status (minus the signal that killed it), what it wrote, and why it was stopped."""

    status: int
    out: str
    err: str
    seconds: float
    stopped: str | None

    @property
    def raised(self) -> str:
        """The last line of a traceback; empty without one."""
        lines = self.err.rstrip().splitlines()
        return lines[-1] if lines and "Traceback (most recent call last)" in self.err else ""

    @property
    def out_of_memory(self) -> bool:
        """Whether it asked for more memory than it may have."""
        words = ("MemoryError", "allocate", "not enough memory", "bad_alloc", "OutOfMemory", "too large", "overflow")
        return any(word.lower() in self.err.lower() for word in words)


def call(work: Callable[[], int], folder: Path, seconds: float = SECONDS, wait: float = WAIT) -> Ended:
    """Do work in a child, in an existing folder, and wait for its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    streams = [folder.parent / f"{folder.name}.{name}" for name in ("out", "err")]
    child = os.fork()
    if not child:
        _work(work, folder, streams, seconds)
    return _wait(child, streams, seconds, wait)


def _work(work: Callable[[], int], folder: Path, streams: list[Path], seconds: float) -> None:
    status = 70
    try:
        os.setsid()
        for number, path in zip((1, 2), streams, strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), line_buffering=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb"), line_buffering=True)
        os.chdir(folder)
        whole = int(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 2))
        resource.setrlimit(resource.RLIMIT_AS, (_size() + MEMORY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))
        torch.set_num_threads(1)
        status = work()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(child: int, streams: list[Path], seconds: float, wait: float) -> Ended:
    until, stopped = time.monotonic() + wait, None
    pause = 0.001
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            stopped = f"hangs after {wait:.0f} s"
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            until = float("inf")
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGKILL) and stopped is None:
        stopped = f"takes more than {seconds:.0f} s of processor time"
    out, err = (path.read_text(errors="replace") if path.exists() else "" for path in streams)
    for path in streams:
        path.unlink(missing_ok=True)
    return Ended(code, out, err, usage.ru_utime + usage.ru_stime, stopped)


def _size() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
