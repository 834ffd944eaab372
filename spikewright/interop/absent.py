"""What stands for a state that a converted neuron does not return, and the error where a model uses it."""

from collections.abc import Iterator
from typing import Any, NoReturn

from torch import Tensor

from spikewright.errors import ConversionError


class StateUsed(ConversionError):
    """A model uses what a converted neuron does not return.

    Args:
        name: Name of the layer; empty if it is not known.
        kind: "potential", "current", "spikes", or "state" of which nothing more is known.
        returned: True if the model returns it, and does nothing else with it.
    """

    def __init__(self, name: str, kind: str, returned: bool = False) -> None:
        self.name, self.kind, self.returned = name, kind, returned
        of = f"'{name}'" if name else "a neuron"
        why = {
            "spikes": f"the spikes of {of}, which never resets its potential. No neuron here fires without a reset; "
            "use another reset_mechanism, or the potential alone",
            "current": f"the synaptic current of {of}, but a run holds states, and the converted neuron returns its "
            "spikes and its potential alone. Use one of them",
        }.get(
            kind,
            f"a state of {of} (a potential, such as mem of snnTorch or the state of a Norse cell), but a run holds "
            "states, and the converted neuron does not return this one. Use its spikes",
        )
        super().__init__(
            f"convert: the forward of the model uses {why}: give step=lambda model, x: ..., a function of the model "
            "and the input of one step that returns the output without it."
        )


class Absent:
    """Stands for what a converted neuron does not return, such as a state: the run holds it.

    Args:
        name: Name of the layer.
        kind: What it is: "potential", "current", "spikes" or "state".
    """

    def __init__(self, name: str = "", kind: str = "state") -> None:
        self.name, self.kind = name, kind

    def _used(self, *args: object, **kwargs: object) -> NoReturn:
        raise StateUsed(self.name, self.kind)

    @classmethod
    def __torch_function__(cls, func: object, types: object, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise next((StateUsed(each.name, each.kind) for each in absents((args, kwargs or {}))), StateUsed("", "state"))

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


def absents(y: Any) -> Iterator[Absent]:
    """Yield the placeholders in a value."""
    if isinstance(y, Absent):
        yield y
    for part in y.values() if isinstance(y, dict) else y if isinstance(y, tuple | list) else ():
        yield from absents(part)


def at_rest(number: int) -> Any:
    """Return placeholders for as many states at rest; one by itself."""
    return Absent() if number == 1 else tuple(Absent() for _ in range(number))


def is_rest(state: object) -> bool:
    """True for a state that says to start at rest, or to go on: nothing, a placeholder, or zeros."""
    if isinstance(state, tuple | list):
        return all(map(is_rest, state))
    if isinstance(state, Tensor):
        return not state.any()
    return state is None or isinstance(state, Absent)


def spikes_of(y: Any) -> Any:
    """Return an output without the placeholders in it; the only tensor that is left, by itself.

    Raises:
        StateUsed: There are placeholders alone in it.
    """
    if isinstance(y, Absent):
        y._used()
    if not isinstance(y, tuple | list | dict):
        return y
    kept = _without_absent(y)
    if len(kept) == 0:
        for absent in absents(y):
            absent._used()
    if isinstance(kept, dict) or type(y) not in (tuple, list):
        return kept if isinstance(kept, dict) else y if not any(True for _ in absents(y)) else kept
    return kept[0] if len(kept) == 1 and len(y) > 1 else kept


def _without_absent(y: Any) -> Any:
    """Return an output without placeholders, and without containers that held nothing else."""
    if isinstance(y, dict):
        return {name: _without_absent(part) for name, part in y.items() if not _is_absent(part)}
    if not isinstance(y, tuple | list) or not any(True for _ in absents(y)):
        return y
    kept = [_without_absent(part) for part in y if not _is_absent(part)]
    return kept if isinstance(y, list) else tuple(kept)


def _is_absent(part: object) -> bool:
    inside = part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple) else None
    return isinstance(part, Absent) or (inside is not None and all(map(_is_absent, inside)))
