"""Modules that stand where neurons and containers of another library stood."""

from collections.abc import Callable, Collection
from typing import Any, NoReturn

from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.mapping import Refused
from spikewright.layers import JointBatchNorm1d, JointBatchNorm2d

Step = Callable[[nn.Module, Tensor], Any]
"""Function (model, input of one step `[batch, *feature]`) -> output of that step."""


class Absent:
    """Stands for a state that a converted neuron does not return: the run holds it."""

    def _used(self, *args: object, **kwargs: object) -> NoReturn:
        raise ConversionError(
            "convert: the forward of the model uses a state of a neuron (a potential, such as mem of snnTorch or the "
            "state of a Norse cell), but the converted neurons return their spikes alone, because a run holds states. "
            "There is no neuron here yet that sends its potential. Give step=lambda model, x: ..., a function of the "
            "model and the input of one step that returns the output made of spikes."
        )

    @classmethod
    def __torch_function__(cls, func: object, types: object, args: object = (), kwargs: object = None) -> NoReturn:
        cls()._used()

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what copies, pickles and hasattr ask for
            raise AttributeError(name)
        return self._used()

    def __eq__(self, other: object) -> bool:
        return False if other is None else self._used()

    __hash__ = object.__hash__
    __bool__ = __len__ = __iter__ = __getitem__ = __float__ = __int__ = _used  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _used
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __matmul__ = __rmatmul__ = __pow__ = _used  # type: ignore[assignment]


def is_rest(state: object) -> bool:
    """True for a state that says to start at rest, or to go on: nothing, a placeholder, or zeros."""
    if isinstance(state, tuple | list):
        return all(map(is_rest, state))
    if isinstance(state, Tensor):
        return not state.any()
    return state is None or isinstance(state, Absent)


class Replaced(nn.Module):
    """A neuron of ours that is called as theirs was, and answers in the form theirs did.

    Args:
        neuron: The neuron, or a recurrent layer.
        states: Number of states that theirs returned beside the spikes.
        axis: Axis of length 1 that stands for time in what it is given; `None` if there is none.
    """

    def __init__(self, neuron: nn.Module, states: int, axis: int | None) -> None:
        super().__init__()
        self.neuron, self.states, self.axis = neuron, states, axis

    def forward(self, x: Tensor, *states: object, **named: object) -> Any:
        if not is_rest([*states, *named.values()]):
            raise ConversionError(
                "convert: the forward of the model gives a neuron a state of its own making, but a run holds the "
                "states of neurons, and they start at rest. Give step=lambda model, x: ..., which calls neurons with "
                "their input alone."
            )
        y = _over(self.neuron, x, self.axis)
        return (y, *(Absent() for _ in range(self.states))) if self.states else y

    def reset_mem(self) -> Absent:
        """Return a placeholder, as for the state at rest."""
        return Absent()

    init_leaky = init_lapicque = reset_mem


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
        return (y[0].unsqueeze(axis), *y[1:])
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

    def forward(self, x: Tensor) -> Any:
        if self.step is not None:
            return spikes_of(self.step(self.model, x))
        y = spikes_of(self.model(x if self.axis is None else x.unsqueeze(self.axis)))
        if isinstance(y, tuple | list):
            return tuple(self._rows_first(part, len(x)) for part in y)
        return self._rows_first(y, len(x))

    def _rows_first(self, y: Any, rows: int) -> Any:
        """Return an output without the axis of length 1 that stands for time in it, if there is one."""
        axis = self.axis or 0
        if not isinstance(y, Tensor) or y.dim() < 2 or y.shape[axis] != 1 or y.shape[1 - axis] != rows:
            return y
        return y.squeeze(axis) if rows > 1 or self.dims is None or y.dim() > self.dims else y


def spikes_of(y: Any) -> Any:
    """Return an output without the placeholders in it; the only tensor that is left, by itself."""
    if not isinstance(y, tuple | list):
        return y
    kept = [part for part in y if not _is_absent(part)]
    return kept[0] if len(kept) == 1 and len(y) > 1 else y


def _is_absent(part: object) -> bool:
    return isinstance(part, Absent) or (isinstance(part, list | tuple) and all(map(_is_absent, part)))


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
