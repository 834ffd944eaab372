"""Modules that know about time: the only ones that see `[time, batch, *feature]`."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

SiteState = dict[str, Tensor]
"""What one site carries from step to step, by name; empty at the start of a sequence."""

State = dict[str, SiteState]
"""What a run carries from step to step, by site: a plain value that can be stored, copied and passed back in."""


def detach(state: State) -> State:
    """Cut a state from the graph of the steps that led to it."""
    return {site: {name: value.detach() for name, value in carried.items()} for site, carried in state.items()}


def is_static(x: Tensor) -> bool:
    """Whether `x` `[time, ...]` is one step, repeated without a copy (`x.expand(steps, *x.shape)`)."""
    return x.dim() > 0 and x.stride(0) == 0 and x.shape[0] > 1


def generators_by_step(seed: Tensor | None, like: Tensor) -> tuple[list[torch.Generator], Tensor]:
    """Return a generator for each step of a chunk, a function of its seed and the step, and the seed of the next step.

    What they draw is the same however a sequence is cut into chunks.

    Args:
        seed: Of the first step, no axes; `None` draws one.
        like: The chunk, `[time, ...]`.
    """
    seed = torch.randint(2**62, ()) if seed is None else seed
    return [torch.Generator(like.device).manual_seed(int(seed) + t) for t in range(len(like))], seed + len(like)


class Temporal(nn.Module, ABC):
    """A module that a run hands whole chunks of time, together with the state it left behind.

    Attributes:
        whole_sequence: The module needs all steps at once, so only a chunk of the full length is right for it.
    """

    whole_sequence: ClassVar[bool] = False

    @abstractmethod
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        """Process a chunk.

        Args:
            x: Input, `[time, batch, *feature]`.
            state: What the previous chunk returned; empty at the start of a sequence.  Never changed in place.
            through_time: Whether credit may flow from one step to the next.

        Returns:
            Output `[time, batch, *feature]` and the new state.
        """
