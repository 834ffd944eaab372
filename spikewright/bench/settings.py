"""Settings of a benchmark."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

WORKLOADS = ("layer", "mlp", "conv", "linear", "memory")


@dataclass(frozen=True)
class BenchSettings:
    """Settings of all workloads.

    Args:
        workloads: Names of workloads: "layer", "mlp", "conv", "linear", "memory". Default: all.
        repeats: Timed runs of every contender, at least 1. Default: None, chosen by each workload.
        quick: True uses tiny sizes and two repeats, as a test without meaningful figures. Default: False.
        sizes: Layer widths of the workload "linear", each at least 1. Default: None, 512 to 16384.
        chunk: Time steps per chunk of the rules, at least 1, or "auto". Default: "auto".
        seed: Seed of weights and inputs, from 0 to 2**63 - 1. Default: 0.
    """

    workloads: tuple[str, ...] = WORKLOADS
    repeats: int | None = None
    quick: bool = False
    sizes: tuple[int, ...] | None = None
    chunk: int | str = "auto"
    seed: int = 0

    def random(self) -> torch.Generator:
        """Return a new generator with the seed."""
        return torch.Generator().manual_seed(self.seed)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Seed torch with the seed within the context, and restore its random state afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            yield

    def times(self, usual: int) -> int:
        """Return the number of timed repeats, for a workload whose own number is `usual`."""
        return self.repeats or (2 if self.quick else usual)

    def described(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return {
            "workloads": list(self.workloads),
            "repeats": self.repeats,
            "quick": self.quick,
            "sizes": None if self.sizes is None else list(self.sizes),
            "chunk": self.chunk,
            "seed": self.seed,
        }
