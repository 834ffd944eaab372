"""The base class of modules that see the time axis, `[time, batch, *feature]`, and the state they carry."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from spikewright.errors import ShapeError

SiteState = dict[str, Tensor]
"""State of one layer, `{name: tensor}`; empty at the start of a sequence."""

State = dict[str, SiteState]
"""State of a run, `{layer: {name: tensor}}`: a plain value that can be stored, copied and passed back in."""


def detach(state: State) -> State:
    """Return a state without the graph of the steps that led to it; the state itself stays as it is.

    Args:
        state: State that `Network.run` returned.  Dictionary `{layer: {name: tensor}}`.

    Raises:
        ShapeError: `state` is no such dictionary.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(2, 3), sw.LIF()))
    >>> output, state = net.run(torch.rand(4, 1, 2))
    >>> state["1"]["membrane"].requires_grad, sw.detach(state)["1"]["membrane"].requires_grad
    (True, False)
    """
    if not isinstance(state, dict) or not all(isinstance(carried, dict) for carried in state.values()):
        raise ShapeError(
            f"detach was given a value of type {type(state).__name__}, which is no state. Give what Network.run "
            "returned beside the output, {layer: {name: tensor}}."
        )
    return {site: {name: value.detach() for name, value in carried.items()} for site, carried in state.items()}


def is_static(x: Tensor) -> bool:
    """True if `x` `[time, ...]` is one step, repeated without a copy (`x.expand(steps, *x.shape)`)."""
    return x.dim() > 0 and x.stride(0) == 0 and x.shape[0] > 1


class Temporal(nn.Module, ABC):
    """Base class of modules with a memory: a run calls `scan` with whole chunks and holds the state between them.

    Neurons, delays, feedback and dropout are such modules.  A subclass implements `scan`; a `forward` of its own is
    refused, because a run would never call it.

    Attributes:
        whole_sequence: True if the module needs all steps of a sequence at once, as joint batch norm does.  Rules that
            work step by step then refuse the network.

    >>> import torch, spikewright as sw
    >>> from spikewright.temporal import Temporal
    >>> class Difference(Temporal):
    ...     def scan(self, x, state, through_time):
    ...         last = state.get("last", torch.zeros_like(x[0]))
    ...         before = torch.cat([last[None], x[:-1]])
    ...         return x - (before if through_time else before.detach()), {"last": x[-1]}
    >>> net = sw.Network(torch.nn.Sequential(Difference(), sw.IF()))
    >>> net.run(torch.tensor([0.0, 1.0, 1.0, 2.0]).view(4, 1, 1))[0].flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    whole_sequence: ClassVar[bool] = False

    @abstractmethod
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        """Process a chunk of steps.

        Args:
            x: Input.  Tensor `[time, batch, *feature]`.
            state: State that the previous chunk returned, `{name: tensor}`; empty at the start of a sequence.  It must
                not be changed in place.
            through_time: True lets gradients pass from one step to the next; False must cut them.

        Returns:
            Output, `[time, batch, *feature]`, and the new state: tensors `[batch, ...]` or without axes, by name.
        """
