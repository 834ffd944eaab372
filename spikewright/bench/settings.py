"""How a benchmark is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

WORKLOADS = ("layer", "mlp", "conv", "linear", "memory")


@dataclass(frozen=True)
class BenchSettings:
    """What all workloads share.

    Args:
        workloads: Their names, in order.
        repeats: Timed runs of every contender; `None` leaves their number to each workload.
        quick: Tiny sizes and two repeats: shows that everything works, its figures mean nothing.
        sizes: Widths of the workload `linear`; `None` are its own.
        chunk: Steps alive at once in the rules that need no more than one; see `Rule`.
        seed: Of weights and inputs.
    """

    workloads: tuple[str, ...] = WORKLOADS
    repeats: int | None = None
    quick: bool = False
    sizes: tuple[int, ...] | None = None
    chunk: int | str = "auto"
    seed: int = 0

    def random(self) -> torch.Generator:
        """Return a source of random numbers that starts from the seed."""
        return torch.Generator().manual_seed(self.seed)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Let layers made inside draw their weights from the seed; the random state is put back."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            yield

    def times(self, usual: int) -> int:
        """Return how often a contender is timed, where a workload would by itself take `usual` repeats."""
        return self.repeats or (2 if self.quick else usual)

    def described(self) -> dict[str, Any]:
        """Return what belongs into a file."""
        return {
            "workloads": list(self.workloads),
            "repeats": self.repeats,
            "quick": self.quick,
            "sizes": None if self.sizes is None else list(self.sizes),
            "chunk": self.chunk,
            "seed": self.seed,
        }
