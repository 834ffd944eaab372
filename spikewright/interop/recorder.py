"""A neuron of another library, called as its library calls it, and what it receives and sends."""

import sys
from collections import Counter
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.absent import at_rest, is_rest
from spikewright.interop.attributes import MODES, is_in_forward, is_state, set_in_forward
from spikewright.interop.mapping import Mapping
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


def alone(found: Found, neuron: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return what a neuron of another library sends for a current `[time, batch, *feature]`, from rest.

    Args:
        found: The neuron.
        neuron: A copy of it.
        x: Current.

    Returns:
        Spikes, or potentials of one that never fires; and potentials beside spikes, `None` if the model uses none.
    """
    sent = found.library.sent
    found.library.rest(neuron)
    form: str = found.library.form(neuron)
    if form != "step":
        if form == "folded":
            neuron.batch_size, neuron.num_timesteps = x.shape[1], -1
        given = LAYOUTS[form](x)
        return TIME_FIRST[form](sent(neuron, given, neuron(given)), x.shape[1]), None
    spikes, potentials, state = list[Tensor](), list[Tensor](), None
    for step in x:
        y = neuron(step, state) if found.library.given_state else neuron(step)
        state = y[1] if isinstance(y, tuple) else None
        spikes.append(sent(neuron, step, y))
        potentials += [y[-1]] if found.potential else []
    return torch.stack(spikes), torch.stack(potentials) if potentials else None


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


def identities(y: Any) -> list[int]:
    """Return the identities of a value and of all that is in it."""
    parts = y.values() if isinstance(y, dict) else y if isinstance(y, tuple | list) else ()
    return [id(y), *(one for each in parts for one in identities(each))]


class Recorder(nn.Module):
    """A neuron of another library that keeps what it is given and what it sends.

    Args:
        found: The neuron.
        neuron: A copy of it.
        order: List to which its name is added at its first call.
        mapping: What it is here.
    """

    def __init__(self, found: Found, neuron: nn.Module, order: list[str], mapping: Mapping) -> None:
        super().__init__()
        self.mapping = mapping
        self.found, self.inner = (found,), neuron  # in a tuple, so that the original is no part of this module
        self.order = order
        self.holds, self.allowed, self.state = False, 1, None
        self.last: dict[str, Any] = {}
        self.given = list(signature(neuron.forward).parameters)[1:]
        self.returned: list[Any] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.potentials: list[Tensor] = []
        self.asked: set[str] = set()
        self.places: Counter[int] = Counter()
        self.made = True

    def forward(self, x: Tensor, *states: Any, **named: Any) -> Any:
        self.places[_place()] += 1
        if not self.holds:
            y = self.inner(x, *states, **named)
        else:
            foreign = not self._are_held(dict(zip(self.given, states)) | named)
            if foreign and len(self.inputs) < self.allowed:  # else it is a loop, which is told when the call is over
                raise ConversionError(
                    f"convert: the forward of the model gives '{self.found[0].name}' a state of its own making, but a "
                    "run holds the states of neurons, and they start at rest. Give step=lambda model, x: ..., which "
                    "calls neurons with their input alone."
                )
            y = self.inner(x, self.state) if self.found[0].library.given_state else self.inner(x)
            self.state = y[1] if isinstance(y, tuple) else None
            self.last = dict(zip(self.given, y[-len(self.given) :])) if isinstance(y, tuple) and self.given else {}
        if not self.inputs:
            self.order.append(self.found[0].name)
        self.inputs.append(x.detach().clone())
        found = self.found[0]
        sent = found.library.sent(self.inner, x, y)
        self.outputs.append(sent.detach().clone())
        kept = [sent, *(y[-1:] if found.potential else ())]
        parts = [*y, *flat(y)] if isinstance(y, tuple) else []  # states may hold what is sent, too
        self.returned = [each for each in parts if not any(each is own for own in kept)]
        if found.potential:
            self.potentials.append(y[-1].detach().clone())
        return y

    def _are_held(self, given: dict[str, Any]) -> bool:
        """True if all states that the forward gives are at rest, or were returned last, each at its place."""
        return all(is_rest(state) or state is self.last.get(name) for name, state in given.items())

    def reset_mem(self) -> Any:
        self.asked.add("reset_mem")
        library, kind = self.found[0].library, self.found[0].kind
        return at_rest(library.resting.get(kind, 1)) if self.holds else self.inner.reset_mem()  # type: ignore[operator]

    init_leaky = init_lapicque = init_rleaky = init_synaptic = reset_mem

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            value = getattr(super().__getattr__("inner"), name)
            if is_in_forward(name):
                self.asked.add(name)
            return value

    def __setattr__(self, name: str, value: Any) -> None:
        if "made" not in self.__dict__ or name in self.__dict__ or name in MODES:
            super().__setattr__(name, value)
        elif not (is_state(self.inner, name) and is_rest(value)):
            raise set_in_forward(self.found[0].name, name)
        elif not self.holds:
            setattr(self.inner, name, value)

    def clear(self) -> None:
        """Forget what was seen, and put the neuron back to rest."""
        self.inputs, self.outputs, self.potentials, self.state = [], [], [], None
        self.last, self.allowed = {}, 1
        self.places.clear()
        self.asked.clear()
        self.found[0].library.rest(self.inner)


def _place() -> int:
    """Return a number that is the same for calls from the same place of a forward, and of all forwards around it."""
    frame, places = sys._getframe(2), list[tuple[int, int]]()
    while frame is not None and not frame.f_code.co_filename.endswith(_RUNNER):
        places.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(places))


_RUNNER = "reference.py"
"""File of the frames that call models."""
