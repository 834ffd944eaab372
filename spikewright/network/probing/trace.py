"""Inputs and outputs of every module in one pass, compared with an earlier pass."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils._pytree import tree_leaves

from spikewright._util.real_numbers import as_real
from spikewright.dataflow import Dataflow
from spikewright.network.probing.inputs import FIRST, Rows, same_sample
from spikewright.network.probing.recomputation import may_run_again

_DOUBLE, _ALLOWED, _ALLOWED_IN_DOUBLE = torch.finfo(torch.float64).eps, 1e-4, 1e-9
Complain = Callable[[str, nn.Module], Exception]
"""Function from the name of a module and the module to an error about it."""


@dataclass
class Call:
    """One call of a module: the tensors that it received and returned."""

    name: str
    given: list[Tensor]
    returned: list[Tensor] = field(default_factory=list)


class Trace:
    """Calls of all modules in one pass, in the order in which they begin.

    In a later pass the same modules must be called in the same order.  Their inputs and outputs may differ only as long
    as the difference reaches neither modules that a run replaces (neurons, norms, masks) nor the output of the network.

    Args:
        flow: Dataflow, which gets the name of the running module.
        earlier: Trace of an earlier pass, with which this one is compared.
        rows: Rows of this pass, if only the compared sample must agree; `None`: all samples.
        complain: Returns the error for the first module with equal inputs but other outputs.
        answered: Names of modules that a run replaces.
        trusted: True if the outputs of these are not compared.
        hooked: Names of modules with hooks on gradients.
        layers: Names of layers for `disordered`.

    Attributes:
        calls: All calls so far.
        running: Modules that have not returned yet, outermost first; after an error they stay.
        steps: Number of calls of the whole network.
        suspicious: True if some module may be called again in the backward pass.
        writes_input: True if the network has written to its input in place.
        nodes: Graph nodes of the outputs of modules with hooks on gradients.
        disordered: Layers that received other rows in the place of the sample than in the earlier pass.
    """

    def __init__(
        self,
        flow: Dataflow | None = None,
        earlier: "Trace | None" = None,
        rows: Rows | None = None,
        complain: Complain | None = None,
        answered: frozenset[str] = frozenset(),
        trusted: bool = False,
        hooked: Collection[str] = (),
        layers: Collection[str] = (),
    ) -> None:
        self.calls: list[Call] = []
        self.steps = 0
        self.suspicious = self.writes_input = False
        self.nodes: list[Any] = []
        self.disordered: set[str] = set()
        self._hooked, self._layers = hooked, layers
        self._flow, self._earlier, self._rows = flow, earlier, rows
        self._complain, self._answered, self._trusted = complain, answered, trusted
        self.running: list[tuple[str, nn.Module]] = []
        self._eps = 0.0
        self._first: tuple[str, nn.Module] | None = None  # module that does not agree

    def __call__(self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the forward of a module, in its place.

        Raises:
            Exception: From `complain`, if something does not agree with the earlier pass.
        """
        self.steps += not name
        keep = self._earlier is None  # copies for later comparison; a later pass is compared at once
        index, call = len(self.calls), Call(name, self._tensors((args, kwargs), keep or not name))
        self.calls.append(call)
        then = self._then(index, call)
        ours = name in self._answered
        fits = then is None or self._same(then.given, call.given)
        if not fits and ours:
            raise self._error()
        if not fits and name in self._layers:
            self.disordered.add(name)
        self.running.append((name, module))
        if self._flow is None:
            result = forward(*args, **kwargs)
        else:
            result = self._followed(self._flow, name, partial(forward, *args, **kwargs))
            if name in self._hooked:
                self.nodes += [x.grad_fn for x in tree_leaves(result) if isinstance(x, Tensor)]
        call.returned = self._tensors(result, keep)
        if not name and self._flow is None:  # a dataflow would take the comparison for a read of values
            given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            self.writes_input |= any(x._version > 0 for x in given) or not all(map(torch.equal, given, call.given))
        self.running.pop()
        if then is not None and not (ours and self._trusted) and not self._same(then.returned, call.returned):
            if fits and self._first is None:
                self._first = name, module
            if not name:
                raise self._error()
        return result

    def _followed(self, flow: Dataflow, name: str, forward: Callable[[], Any]) -> Any:
        self.suspicious = self.suspicious or may_run_again()
        outer, flow.module = flow.module, name
        try:
            return forward()
        finally:
            flow.module = outer

    def _tensors(self, values: Any, copy: bool) -> list[Tensor]:
        return _tensors(values, copy) if self._flow is None else self._flow.aside(_tensors, values, copy)

    def _then(self, index: int, call: Call) -> Call | None:
        """Return the same call of the earlier pass, if there is one."""
        if self._earlier is None or self._complain is None:
            return None
        if index >= len(self._earlier.calls) or self._earlier.calls[index].name != call.name:
            raise self._error()
        return self._earlier.calls[index]

    def _error(self) -> Exception:
        assert self._complain is not None
        return self._complain(*(self._first or self.running[-1]))

    def _same(self, then: list[Tensor], now: list[Tensor]) -> bool:
        return len(then) == len(now) and all(map(self._equal, then, now))

    def _equal(self, a: Tensor, b: Tensor) -> bool:
        return all(self._close(*pair) for pair in ([(a, b)] if self._rows is None else same_sample(a, b, self._rows)))

    def _close(self, a: Tensor, b: Tensor) -> bool:
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        a, b = as_real(a), as_real(b)
        if (equal := torch.equal(a, b)) or not a.dtype.is_floating_point:
            return equal
        within = self._tolerance(a)
        a, b = a.double(), b.double()
        finite = a[torch.isfinite(a)]
        size = float(finite.abs().max()) if finite.numel() else 0.0
        return torch.allclose(a, b, rtol=0.0, atol=within * size, equal_nan=True)

    def _tolerance(self, x: Tensor) -> float:
        """Return the allowed rounding error, relative to the largest entry of a tensor.

        Values that were rounded to half precision may be of full precision later.
        """
        kind, cast = x.device.type, [x.dtype]
        if torch.is_autocast_enabled(kind):
            cast.append(torch.get_autocast_dtype(kind))
        self._eps = max(self._eps, *(torch.finfo(dtype).eps for dtype in cast))
        others = self._rows not in (None, FIRST)  # then operations may be split differently
        if self._first is not None:  # its effect on later modules may be small
            return (1024 if others else 32) * self._eps
        return max(_ALLOWED if self._eps > _DOUBLE else _ALLOWED_IN_DOUBLE, 8 * self._eps if others else 0.0)

    @property
    def rough(self) -> bool:
        """True if more rounding error was allowed than between equal rows."""
        return 8 * self._eps > _ALLOWED


def _tensors(values: Any, copy: bool) -> list[Tensor]:
    """Return the tensors in a structure, or copies, without those that a transform of torch.func has wrapped."""
    found = [x for x in tree_leaves(values) if isinstance(x, Tensor) and not is_functorch_wrapped_tensor(x)]
    return [x.detach().clone() if copy else x.detach() for x in found]
