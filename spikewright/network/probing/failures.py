"""Error messages for a forward that raises in the probe; other inputs reveal the cause."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from spikewright._util.returned import described
from spikewright.errors import ShapeError, SpikewrightError
from spikewright.network.complaints import LOOP, shown
from spikewright.network.probing.inputs import MOVED, probe_inputs
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.passes import one_pass
from spikewright.network.probing.start import undisturbed
from spikewright.network.probing.trace import Trace
from spikewright.network.raised import is_said, place_of
from spikewright.network.sites import Sites

_ADVICE = (
    "Layout is [time, batch, *feature]: repeat a static input with x.expand(steps, *x.shape); for one that is [batch, "
    "time, *feature], say so with batch_first=True, or swap it with x.transpose(0, 1)."
)


def explained(error: Exception, sites: Sites, x: Tensor) -> Exception:
    """Return the error to raise: one of shape, dtype or device in terms of `x`, any other with a note.

    Args:
        error: Error that was raised in the probe.
        sites: Modules of the network whose forward a run replaces.
        x: Input, `[time, batch, *feature]`.
    """
    if isinstance(error, SpikewrightError) and not isinstance(error, ShapeError):
        return error
    given = _given(sites, x)
    with undisturbed(sites.module):
        again = _Attempt(sites, x)
        found = (
            ""
            if again.error is None
            else _other_type(sites, x, again) or _missing_axis(sites, x) or _not_one(sites, error)
        )
        of_shape = again.is_of_shape and again.differs(_Attempt(sites, x, more=True))
        looping = isinstance(error, ShapeError) and again.sees_one_row(_Attempt(sites, x, more=True))
    where = shown(*(place_of(error, sites.module) if again.error is None else again.innermost))
    if looping:
        return ShapeError(f"{error} {where} is given one row at a time, however many there are: {LOOP}")
    if isinstance(error, ShapeError):
        return ShapeError(f"{error} ({given} {found or _ADVICE})")
    if not is_said(error):
        if found:
            return ShapeError(f"{given} {found} ({error})")
        if of_shape and again.is_of_layers:
            return ShapeError(f"{where}: {error} ({given} {_ADVICE})")
    advice = found or (_ADVICE if of_shape else "")
    near = "x[0, 0]" if again.error else "those near x[0, 0]"
    error.add_note(
        f"{where} raised this when the network was wired, which runs its forward on four samples like {near}, "
        f"with gradients. {given} {advice}".strip()
    )
    return error


def _given(sites: Sites, x: Tensor) -> str:
    read = f"[time={x.shape[0]}, batch={x.shape[1]}, feature={list(x.shape[2:])}]"
    if sites.inputs is not None:
        return f"The network was given x of several tensors, {described(sites.inputs.form.unpack(x))}."
    return f"The network was given x of dtype {x.dtype}, shape {list(x.shape)}, read as {read}."


class _Attempt:
    """One pass of a step like `x`, and the error that it raised.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input, `[time, batch, *feature]`.
        more: True adds a row, and moves the sample among other rows.
    """

    def __init__(self, sites: Sites, x: Tensor, more: bool = False) -> None:
        self.error: Exception | None = None
        self._trace, self._last, self._module = Trace(), _LastCall(), sites.module
        try:
            step = probe_inputs(x, sites)[more]
            with self._last:
                one_pass(sites, step, LiveSpikes(MOVED if more else None), self._trace)
        except Exception as error:
            self.error = error

    @property
    def innermost(self) -> tuple[str, nn.Module]:
        """The module in which it failed."""
        return self._trace.running[-1] if self._trace.running else ("", self._module)

    @property
    def is_of_shape(self) -> bool:
        """True if the operation that failed also fails for tensors without values."""
        return self._last.fails_on_shapes()

    @property
    def is_of_layers(self) -> bool:
        """True if it failed in a module of a library, or at a weight of the network, and not in the user's own code."""
        library = type(self.innermost[1]).__module__.partition(".")[0] in ("torch", __name__.partition(".")[0])
        return library or self._last.was_given({id(w) for w in (*self._module.parameters(), *self._module.buffers())})

    def differs(self, other: "_Attempt") -> bool:
        """True if the operation that failed has arguments of other sizes with more rows, so that it is about `x`."""
        return self._last.sizes != other._last.sizes

    def is_better_than(self, other: "_Attempt") -> bool:
        """True if it did not fail, or failed in a module that the other did not reach."""
        return self.error is None or len(self._trace.calls) > len(other._trace.calls)

    def sees_one_row(self, other: "_Attempt") -> bool:
        """True if the module in which it failed gets inputs of the same size, but other values, with more rows."""
        if self.error is None or other.error is None:
            return False
        pairs = list(zip(self._given(), other._given()))
        return all(a.shape == b.shape for a, b in pairs) and any(not torch.equal(a, b) for a, b in pairs)

    def _given(self) -> list[Tensor]:
        name, _ = self.innermost
        return next((call.given for call in reversed(self._trace.calls) if call.name == name), [])


class _LastCall(TorchFunctionMode):
    """While active, keeps the first function of torch that raises, with its arguments and the error."""

    def __init__(self) -> None:
        super().__init__()
        self._failed: tuple[Any, Any, Any, Exception] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except Exception as error:
            self._failed = self._failed or (func, args, kwargs, error)
            raise

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """Sizes of the tensors that the function was given, which failed."""
        given = [] if self._failed is None else tree_leaves(self._failed[1:3])
        return [tuple(x.shape) for x in given if isinstance(x, Tensor)]

    def was_given(self, tensors: set[int]) -> bool:
        """Return True if the function that failed was given one of these tensors, by identity."""
        return self._failed is not None and any(id(x) in tensors for x in tree_leaves(self._failed[1:3]))

    def fails_on_shapes(self) -> bool:
        if self._failed is None:
            return False
        func, args, kwargs, before = self._failed
        try:
            func(*tree_map(_only_shape, args), **tree_map(_only_shape, kwargs))
        except Exception as error:
            return type(error) is type(before)  # an error of another type means that it needs values
        return False


def _only_shape(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_like(value, device="meta", dtype=torch.float32 if value.is_floating_point() else value.dtype)


def _other_type(sites: Sites, x: Tensor, failed: _Attempt) -> str:
    """Return advice if the network runs, or gets farther, on the same numbers in another dtype or on another device."""
    if x.is_complex() and sites.inputs is None and _Attempt(sites, x.real).is_better_than(failed):
        return "It runs on real numbers: give it x.real, x.abs(), or torch.view_as_real(x).flatten(-2)."
    held = [p for p in (*sites.module.parameters(), *sites.module.buffers()) if p.is_floating_point()]
    own = dict.fromkeys((p.dtype, p.device) for p in held)
    others = [(torch.get_default_dtype(), x.device), (torch.long, x.device)]
    for dtype, device in dict.fromkeys([*own, *others]):
        if (dtype, device) == (x.dtype, x.device) or x.is_complex() or sites.inputs is not None:
            continue
        if device.type != "meta" and not _Attempt(sites, x.to(device, dtype)).is_better_than(failed):
            continue
        if device != x.device:
            return f"Its layers are on {device}, and x is on {x.device}: bring both to one device."
        if not dtype.is_floating_point:
            return f"It runs on indices: give it x.to({dtype})."
        if (dtype, device) not in own:
            return f"It runs on floating-point numbers: give it x.to({dtype})."
        convert = f", or convert the network with net.to({x.dtype})" if x.is_floating_point() else ""
        return f"Its layers compute in {dtype}: give it x.to({dtype}){convert}."
    return ""


def _not_one(sites: Sites, error: Exception) -> str:
    """Return advice if several tensors arrived in one piece where a tensor was expected."""
    if sites.inputs is None or sites.inputs.by != "whole" or not isinstance(error, TypeError | AttributeError):
        return ""
    kind = sites.inputs.form.kind.__name__
    advice = " If they are the steps of one input, give torch.stack(x)." if kind != "dict" else ""
    return f"Its forward takes one object and was given the {kind}.{advice}"


def _missing_axis(sites: Sites, x: Tensor) -> str:
    """Return advice if the network runs on samples with one more axis."""
    if sites.inputs is not None:
        return ""
    if _Attempt(sites, x[None]).error is not None:
        return ""
    return (
        f"It runs on samples of shape {list(x.shape[1:])}, so an axis seems to be missing: give a batch without time "
        "as x.expand(steps, *x.shape), and one sequence without a batch as x.unsqueeze(1)."
    )
