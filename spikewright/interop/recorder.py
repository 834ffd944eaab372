"""A neuron of another library, called as its library calls it, and what it receives and sends."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.frames import Absent, is_rest
from spikewright.interop.reading import Found

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "time": lambda x: x,
    "batch": lambda x: x.transpose(0, 1),
    "folded": lambda x: x.transpose(0, 1).flatten(0, 1),
}
TIME_FIRST: dict[str, Callable[[Tensor, int], Tensor]] = {
    "time": lambda y, batch: y,
    "batch": lambda y, batch: y.transpose(0, 1),
    "folded": lambda y, batch: y.unflatten(0, (batch, -1)).transpose(0, 1),
}


def alone(found: Found, neuron: Any, x: Tensor) -> Tensor:
    """Return the spikes of a neuron of another library for a current `[time, batch, *feature]`, from rest.

    Args:
        found: The neuron.
        neuron: A copy of it.
        x: Current.
    """
    found.library.rest(neuron)
    form: str = found.library.form(neuron)
    if form != "step":
        if form == "folded":
            neuron.batch_size, neuron.num_timesteps = x.shape[1], -1
        y = neuron(LAYOUTS[form](x))
        return TIME_FIRST[form](y[0] if isinstance(y, tuple) else y, x.shape[1])
    spikes, state = [], None
    for step in x:
        y = neuron(step, state) if found.library.given_state else neuron(step)
        state = y[1] if isinstance(y, tuple) else None
        spikes.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(spikes)


def flat(y: Any, without: frozenset[int] = frozenset()) -> list[Tensor]:
    """Return the tensors of a value in their order.

    Args:
        y: The value.
        without: Identities of tensors and of containers that are left out.
    """
    if id(y) in without:
        return []
    if isinstance(y, Tensor):
        return [y]
    parts = y.values() if isinstance(y, dict) else y if isinstance(y, tuple | list) else ()
    return [tensor for each in parts for tensor in flat(each, without)]


class Recorder(nn.Module):
    """A neuron of another library that keeps what it is given and what it sends.

    Args:
        found: The neuron.
        neuron: A copy of it.
        order: List to which its name is added at its first call.
    """

    def __init__(self, found: Found, neuron: nn.Module, order: list[str]) -> None:
        super().__init__()
        self.found, self.inner = (found,), neuron  # in a tuple, so that the original is no part of this module
        self.order = order
        self.holds, self.state = False, None
        self.returned: list[Any] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor, *states: Any, **named: Any) -> Any:
        if not self.holds:
            y = self.inner(x, *states, **named)
        else:
            if not is_rest([*states, *named.values()]) and not any(each is self.state for each in states):
                raise ConversionError(
                    f"convert: the forward of the model gives '{self.found[0].name}' a state of its own making, but a "
                    "run holds the states of neurons, and they start at rest. Give step=lambda model, x: ..., which "
                    "calls neurons with their input alone."
                )
            y = self.inner(x, self.state) if self.found[0].library.given_state else self.inner(x)
            self.state = y[1] if isinstance(y, tuple) else None
        if not self.inputs:
            self.order.append(self.found[0].name)
        self.inputs.append(x.detach().clone())
        self.returned = [*y[1:], *(t for t in flat(y[1:]) if t is not y[0])] if isinstance(y, tuple) else []
        self.outputs.append((y[0] if isinstance(y, tuple) else y).detach().clone())
        return y

    def reset_mem(self) -> Any:
        return Absent() if self.holds else self.inner.reset_mem()  # type: ignore[operator]

    init_leaky = init_lapicque = reset_mem

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def clear(self) -> None:
        """Forget what was seen, and put the neuron back to rest."""
        self.inputs, self.outputs, self.state = [], [], None
        self.found[0].library.rest(self.inner)
