"""Two processes that talk to each other, for tests of what is shared between them."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed, multiprocessing

Work = Callable[[int, Path], None]


def both(work: Work, folder: Path) -> None:
    """Call `work(rank, folder)`, a function of a module, in two processes of one group; raise what one raises."""
    multiprocessing.spawn(_rank, args=(work, folder), nprocs=2)


def _rank(rank: int, work: Work, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    work(rank, folder)
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # threads of the group that drop their last tensor while Python winds up would abort the process
