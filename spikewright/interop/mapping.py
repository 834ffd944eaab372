"""Mappings of neurons of other libraries to neurons here, or the reason why there is none."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.recurrence import with_potential
from spikewright.layers import SynapticDelay
from spikewright.neurons import Neuron
from spikewright.neurons._constants import Potential


class Refused(Exception):
    """A module has no exact equal here.

    Args:
        why: Reason, as the end of a sentence about the module.
        instead: Sentence with the nearest exact form, or with what to change.
    """

    def __init__(self, why: str, instead: str) -> None:
        super().__init__(why)
        self.why, self.instead = why, instead


@dataclass(frozen=True)
class Trained:
    """A constant of a neuron that is trained, and how it goes back into the other library's object.

    Attributes:
        ours: Name of the parameter of our neuron.
        theirs: Name of the parameter of their neuron.
        back: Function from our value to theirs.
        note: Relation of both in words.
    """

    ours: str
    theirs: str
    back: Callable[[Tensor], Tensor]
    note: str


@dataclass(frozen=True)
class Mapping:
    """A neuron of another library, and the neuron of ours that sends the same spikes.

    Attributes:
        theirs: Their neuron with the arguments that matter, as code.
        neuron: Ours, for runs in the dtype that was asked for.
        fires_at: Their threshold, measured from where the potential rests.  Number > 0, or one per neuron.
        rests_at: Where theirs rests.
        strict: True if theirs fires above the threshold, and not at it.
        quantum: What a soft reset of ours takes off the potential.
        states: Number of states that theirs returns beside the spikes.
        trained: Constants of the neuron that are trained.
        layer: Module that takes the place of theirs, if it is more than the neuron: a recurrent layer.
        joined: Current of the neurons of a recurrent layer, from its input and the spikes of theirs, both
            `[time, batch, *feature]`.
        alone: Function that takes its recurrence out of a copy of theirs, so that its input is its current; `None`
            where the current depends on the input alone.
        complete: Function that puts a way of the gradient into a copy of theirs that it leaves out; `None` if there is
            none.
        remark: What is not the same, in words.
        returns: What theirs returns, in order: "spikes", "potential", "current"; or "steps" for a list of one output
            per step.  Default: (), spikes and states of which nothing more is known.
        potential: Which potential it is that theirs returns; `None` if there is none here.
    """

    theirs: str
    neuron: Neuron
    fires_at: float | Tensor
    strict: bool = False
    rests_at: float = 0.0
    states: int = 0
    trained: tuple[Trained, ...] = ()
    layer: nn.Module | None = None
    joined: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, repr=False)
    alone: Callable[[Any], None] | None = field(default=None, repr=False)
    complete: Callable[[Any], None] | None = field(default=None, repr=False)
    remark: str = ""
    returns: tuple[str, ...] = ()
    potential: Potential | None = None

    @property
    def placed(self) -> nn.Module:
        """The module that replaces theirs: the neuron, or the recurrent layer around it."""
        return self.neuron if self.layer is None else self.layer

    def written(self, neuron: str) -> str:
        """Return what replaces theirs, as text.

        Args:
            neuron: The neuron, as code.
        """
        if self.layer is None:
            return neuron
        if any(isinstance(m, SynapticDelay) for m in self.layer.modules()):
            return f"SynapticDelay of 1 step, {neuron}"
        return f"Recurrent({neuron})" if self.neuron.spiking else f"Linear, {neuron}"

    @property
    def shaped(self) -> bool:
        """True if it has constants for its own shape alone: one per neuron, or recurrent weights."""
        found = (*self.neuron.buffers(recurse=False), *self.neuron.parameters(recurse=False), self.fires_at)
        several = any(isinstance(each, Tensor) and each.numel() > 1 for each in found)
        return several or self.layer is not None

    def emitting(self) -> "Mapping":
        """Return the same with a neuron that returns its potential beside its spikes."""
        if not self.neuron.spiking:
            return self
        self.neuron.potential = self.potential
        return self if self.layer is None else replace(self, layer=with_potential(self.layer))

    def current(self, x: Tensor, spikes: Tensor) -> Tensor:
        """Return the current of the neurons for an input and the spikes of theirs, `[time, batch, *feature]`."""
        return x if self.joined is None else self.joined(x, spikes)

    @property
    def quantum(self) -> float:
        amount = self.neuron.reset_amount
        return amount.item() if isinstance(amount, Tensor) else amount


@dataclass(frozen=True)
class Library:
    """How models of one library are read.  None of them is imported here: what is needed comes with the model.

    Attributes:
        name: Name of the library.
        packages: Packages that define the classes.
        neurons: Readers, by the name of the class: (module, dtype) -> mapping, or `Refused`.
        missing: Classes that have no equal here, by name: reason and advice.
        bases: Names of bases whose subclasses are refused unless they are known.
        known: Names of attributes that the readers take into account, or that change nothing.
        form: Function from a neuron to the input it takes: "step" `[batch, ...]`, "time" `[time, batch, ...]`, "batch"
            `[batch, time, ...]` or "folded" `[batch * time, ...]`.
        rest: Function that puts the states of a neuron back to rest.
        plain: Function that returns the plain module in place of one with a time axis; None to leave it.
        double: True if whole networks run in float64.
        given_state: True if neurons of one step take their state from the caller, and rest without one.
        resting: Number of states that a neuron is put to rest with, by the name of its class, if it is not 1.
        sent: Function (neuron, input, what it returned) -> spikes, or potentials of one that never fires, in the layout
            of its input.
        containers: Names of classes that hold a neuron of the library and feed its spikes back.
    """

    name: str
    packages: tuple[str, ...]
    neurons: dict[str, Callable[[Any, torch.dtype], Mapping]]
    missing: dict[str, tuple[str, str]]
    bases: frozenset[str]
    known: frozenset[str]
    form: Callable[[nn.Module], str]
    rest: Callable[[nn.Module], None]
    plain: Callable[[nn.Module, int | None], nn.Module | None]
    double: bool = True
    given_state: bool = False
    resting: dict[str, int] = field(default_factory=dict[str, int])
    sent: Callable[[Any, Tensor, Any], Tensor] = lambda neuron, x, y: y[0] if isinstance(y, tuple) else y
    containers: frozenset[str] = frozenset()


def above(threshold: float, dtype: torch.dtype) -> float:
    """Return the next number above a threshold in a dtype: firing at it is firing above the threshold.

    >>> above(1.0, torch.float32)
    1.0000001192092896
    """
    return torch.nextafter(torch.tensor(threshold, dtype=dtype), torch.tensor(math.inf, dtype=dtype)).item()


def one_number(value: object, name: str) -> float:
    """Return a constant that is the same for all neurons of a layer as a number.

    Raises:
        Refused: It differs between neurons.
    """
    if not isinstance(value, Tensor):
        return float(value)  # type: ignore[arg-type]
    flat = value.detach().flatten()
    if not flat.numel() or not bool((flat == flat[0]).all()):
        raise Refused(
            f"its {name} differs between the neurons of the layer (a tensor {list(value.shape)}), and here it is one "
            "number for all of them",
            f"Give the layer one {name}, or make one layer for each value",
        )
    return flat[0].item()


def several_numbers(value: object, name: str) -> float | Tensor:
    """Return a constant as a number, or one per neuron as a tensor that broadcasts to `[batch, *feature]`.

    Raises:
        Refused: There are none.
    """
    if isinstance(value, Tensor) and value.numel() > 1 and not bool((value == value.flatten()[0]).all()):
        wide = value.detach().double()
        return wide.unsqueeze(0) if wide.dim() == 1 else wide  # one axis would stand for channels here
    return one_number(value, name)


def is_trained(value: object) -> bool:
    """True for a parameter that an optimizer would change."""
    return isinstance(value, nn.Parameter) and value.requires_grad


def positive(threshold: float, theirs: str) -> float:
    """Return a threshold that is above rest.

    Raises:
        Refused: It is not.
    """
    if not 0 < threshold < math.inf:
        raise Refused(
            f"its threshold is {threshold:g} above where the potential rests ({theirs}), so that neurons would fire "
            "without input, or never, and here a threshold is a positive number",
            "Set a threshold above the potential of rest",
        )
    return threshold


def all_positive(threshold: float | Tensor, theirs: str) -> float | Tensor:
    """Return thresholds that are above rest, as `positive` does for one."""
    if not isinstance(threshold, Tensor):
        return positive(threshold, theirs)
    positive(threshold.min().item(), theirs)
    return threshold


def shown(value: float | Tensor) -> str:
    """Return a constant as text: the number, or how many there are."""
    return f"<{value.numel()} values>" if isinstance(value, Tensor) else f"{value:g}"
