"""Two processes of one group, for tests of what is shared between them.

The imports are paid for once: a server that has done them forks the processes, which do piece after piece of work.
"""

import pickle
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import distributed

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.catalogue", "pytest"])
_SECONDS = 60.0


def both(work: Callable[..., Any], *args: Any) -> list[Any]:
    """Call `work(rank, *args)`, a function of a module, in two processes of one group.

    Returns:
        What each returned.
    """
    processes, pipes = _pair()
    for pipe in pipes:
        pipe.send_bytes(pickle.dumps((work, args)))
    answers: dict[int, Any] = {}
    while len(answers) < 2:
        ready = wait([pipe for rank, pipe in enumerate(pipes) if rank not in answers], _SECONDS)
        for rank, pipe in enumerate(pipes):
            if pipe in ready:
                fine, answers[rank] = pickle.loads(pipe.recv_bytes())
                ready = ready if fine else []
        if not ready:  # the other one may wait for it for ever
            _pair.cache_clear()
            for process in processes:
                process.kill()
            raise AssertionError(f"Answers by rank: {answers}")
    return [answers[rank] for rank in range(2)]


def start(work: Callable[..., None], *args: Any) -> BaseProcess:
    """Start a process of its own that calls `work(*args)`."""
    process = _CONTEXT.Process(target=work, args=args, daemon=True)
    process.start()
    return process


@cache
def _pair() -> tuple[list[BaseProcess], list[Connection]]:
    meeting = tempfile.mktemp()
    ends = [_CONTEXT.Pipe() for _ in range(2)]
    return [start(_serve, rank, meeting, there) for rank, (_, there) in enumerate(ends)], [here for here, _ in ends]


def _serve(rank: int, meeting: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    while True:
        work, args = pickle.loads(pipe.recv_bytes())
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(0)
        try:
            answer = True, work(rank, *args)
        except Exception:
            answer = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(answer))
