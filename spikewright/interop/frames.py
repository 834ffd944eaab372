"""Modules that stand where neurons and containers of another library stood."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.absent import Absent, StateUsed, absents, at_rest, is_rest, spikes_of
from spikewright.interop.attributes import state_read
from spikewright.interop.mapping import Refused, Trained
from spikewright.layers import JointBatchNorm1d, JointBatchNorm2d

Step = Callable[[nn.Module, Tensor], Any]
"""Function (model, input of one step `[batch, *feature]`) -> output of that step."""


class Replaced(nn.Module):
    """A neuron of ours that is called as theirs was, and answers in the form theirs did.

    Args:
        neuron: The neuron, or a recurrent layer.
        states: Number of states that theirs returned beside the spikes.
        axis: Axis of length 1 that stands for time in what it is given; `None` if there is none.
        returns: What theirs returned, in order; empty for spikes and states.
        name: Name of the layer.
        resting: Number of states that theirs was put to rest with.
        dropped: True if the model returns states that are not returned here.
        constants: Constants of theirs that the forward reads, by name.
        trained: What is trained of them, by name.
        own_states: Names of states of theirs that the forward reads, which are not here.
    """

    def __init__(
        self,
        neuron: nn.Module,
        states: int,
        axis: int | None,
        returns: tuple[str, ...] = (),
        name: str = "",
        resting: int = 1,
        dropped: bool = False,
        constants: Mapping[str, Any] | None = None,
        trained: Mapping[str, Trained] | None = None,
        own_states: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.neuron, self.states, self.axis = neuron, states, axis
        self.returns, self.name, self.resting, self.dropped = returns, name, resting, dropped
        self.constants, self.trained, self.own_states = dict(constants or {}), dict(trained or {}), own_states

    def forward(self, x: Tensor, *states: object, **named: object) -> Any:
        if not is_rest([*states, *named.values()]):
            raise ConversionError(
                "convert: the forward of the model gives a neuron a state of its own making, but a run holds the "
                "states of neurons, and they start at rest. Give step=lambda model, x: ..., which calls neurons with "
                "their input alone."
            )
        y = _over(self.neuron, x, self.axis)
        if not self.returns:
            return (y, *(Absent(self.name) for _ in range(self.states))) if self.states else y
        if self.returns == ("steps",):
            return [y] if self.axis is None else list(y.unbind(self.axis))
        told = {"spikes": y[0], "potential": y[1]} if isinstance(y, tuple) else {self._sent: y}
        parts = tuple(told.get(kind, Absent(self.name, "state" if self.dropped else kind)) for kind in self.returns)
        return parts[0] if len(parts) == 1 else parts

    @property
    def _sent(self) -> str:
        return "spikes" if getattr(self.neuron, "spiking", True) else "potential"

    def reset_mem(self) -> Any:
        """Return placeholders, as for states at rest."""
        return at_rest(self.resting)

    init_leaky = init_lapicque = init_rleaky = init_synaptic = reset_mem

    def __getattr__(self, name: str) -> Any:
        own = vars(self)
        if name in own.get("constants", ()):
            value = own["constants"][name]
            if name not in own["trained"]:
                return value
            constant = own["trained"][name]
            owned = (p for key, p in self.neuron.named_parameters() if f".{key}".endswith(f".{constant.ours}"))
            return constant.back(next(owned)).reshape(value.shape)
        if name in own.get("own_states", ()):
            raise state_read(self.name, name)
        return super().__getattr__(name)


def over_time(inner: nn.Module, axis: int | None) -> nn.Module:
    """Return a module of one step for calls with an axis of length 1 that stands for time, if there is one."""
    return inner if axis is None else OverTime(inner, axis)


class OverTime(nn.Module):
    """A module of one step, called with an axis of length 1 that stands for time.

    Args:
        inner: The module.
        axis: That axis.
    """

    def __init__(self, inner: nn.Module, axis: int) -> None:
        super().__init__()
        self.inner, self.axis = inner, axis

    def forward(self, x: Tensor, *states: object) -> Any:
        return _over(self.inner, x, self.axis, *states)


class Unsqueeze(nn.Module):
    """Puts in an axis of length 1."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(self.axis)


class StateSequential(nn.Sequential):
    """Modules one after the other, some of which return states: returns the output and a placeholder."""

    def forward(self, input: Tensor, state: object = None) -> Any:  # the name of the argument is that of the base
        for module in self:
            y = module(input)
            input = y[0] if isinstance(y, tuple) else y
        return input, Absent()

    def bare(self) -> nn.Sequential:
        """Return a plain sequence of the same modules, with neurons that return their spikes alone."""
        found = [m.neuron if isinstance(m, Replaced) and m.axis is None else m for m in self]
        for m in found:
            if isinstance(m, Replaced):
                m.states = 0
        return nn.Sequential(*(m.bare() if isinstance(m, StateSequential) else m for m in found))


def _over(module: nn.Module, x: Tensor, axis: int | None, *states: object) -> Any:
    if axis is None:
        return module(x, *states)
    if x.dim() <= axis or x.shape[axis] != 1:
        raise ConversionError(
            f"convert: a layer that saw a whole sequence was given {list(x.shape)} for one step, where axis {axis} has "
            "to have length 1. Give step=lambda model, x: ..., a function of the model and the input of one step."
        )
    y = module(x.squeeze(axis), *states)
    if isinstance(y, tuple):
        return tuple(part.unsqueeze(axis) if isinstance(part, Tensor) else part for part in y)
    return y.unsqueeze(axis)


class Converted(nn.Module):
    """A converted model that is called with rows `[rows, *feature]`, in the form in which its forward wants them.

    Args:
        model: The converted model.
        axis: Where its forward wants an axis of length 1 for time; `None` if nowhere.
        step: The user's function for one step, if there is one.
    """

    def __init__(self, model: nn.Module, axis: int | None, step: Step | None) -> None:
        super().__init__()
        self.model, self.axis, self.step = model, axis, step
        self.dims: int | None = None  # of an output with rows first, once that is known
        self.lists = any(isinstance(m, Replaced) and m.returns == ("steps",) for m in model.modules())

    def forward(self, x: Tensor) -> Any:
        if self.step is None:
            y = self.model(x if self.axis is None else x.unsqueeze(self.axis))
        else:
            y = self.step(self.model, x)
        told = sorted((each for each in absents(y) if each.kind != "state"), key=lambda each: each.kind != "potential")
        if told:
            raise StateUsed(told[0].name, told[0].kind, returned=True)
        y = spikes_of(y)
        if self.lists and isinstance(y, list) and len(y) == 1:
            return y[0]
        return self._all_rows_first(y, len(x))

    def _all_rows_first(self, y: Any, rows: int) -> Any:
        if isinstance(y, tuple | list):
            return tuple(self._all_rows_first(part, rows) for part in y)
        if isinstance(y, dict):
            return {name: self._all_rows_first(part, rows) for name, part in y.items()}
        return self._rows_first(y, rows)

    def _rows_first(self, y: Any, rows: int) -> Any:
        """Return an output without the axis of length 1 that stands for time in it, if there is one."""
        axis = self.axis or 0
        if not isinstance(y, Tensor) or y.dim() < 2 or y.shape[axis] != 1 or y.shape[1 - axis] != rows:
            return y
        return y.squeeze(axis) if rows > 1 or self.dims is None or y.dim() > self.dims else y


def as_plain(module: nn.Module, without: Collection[str], kind: type[nn.Module] | None = None) -> nn.Module:
    """Return a module of torch's class with the parameters and buffers, the same tensors, of one that extends it.

    Args:
        module: The module.
        without: Names of attributes that are left out.
        kind: Class of the result.  Default: None, the first base that torch defines.
    """
    kind = kind or next(base for base in type(module).__mro__ if base.__module__.startswith("torch.nn."))
    found = kind.__new__(kind)
    kept = {name: value for name, value in vars(module).items() if name not in without}
    for name in ("_parameters", "_buffers", "_modules"):
        kept[name] = dict(kept[name])
    found.__dict__.update(kept)
    return found


_JOINT: dict[type, type[nn.Module]] = {nn.BatchNorm1d: JointBatchNorm1d, nn.BatchNorm2d: JointBatchNorm2d}


def joined(norm: nn.Module, without: Collection[str] = ()) -> nn.Module:
    """Return a batch norm of all steps together, with the parameters and buffers of one of torch.

    Raises:
        Refused: There is none of the kind.
    """
    for kind, joint in _JOINT.items():
        if isinstance(norm, kind):
            return as_plain(norm, without, joint)
    raise Refused(
        f"it normalises all steps together, and {type(norm).__name__} does so for each step here",
        "Use BatchNorm1d or BatchNorm2d, or a norm for each step",
    )
