"""What every module of a network returns in one pass, compared with an earlier pass."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from spikewright.dataflow import Dataflow

Complain = Callable[[str, nn.Module], Exception]
"""(name of a module, the module) -> the error that says what is wrong with it."""


@dataclass(frozen=True)
class Returned:
    """What one call of a module returned, and whether it drew random numbers."""

    name: str
    tensors: list[Tensor]
    drew: bool = False


class Trace:
    """Calls of all modules in one pass, in the order in which they return.

    Args:
        flow: Is told which module runs.
        earlier: The trace of an earlier pass, which this one has to agree with.
        part: What of an output has to agree.
        complain: Makes the error for the first module that does not agree.
        trusted: Names of modules that are not compared.

    Attributes:
        calls: So far.
        steps: How often the whole network was called.
    """

    def __init__(
        self,
        flow: Dataflow | None = None,
        earlier: "Trace | None" = None,
        part: Callable[[Tensor], Tensor] = lambda x: x,
        complain: Complain | None = None,
        trusted: frozenset[str] = frozenset(),
    ) -> None:
        self.calls: list[Returned] = []
        self.steps = 0
        self._flow, self._earlier, self._part = flow, earlier, part
        self._complain, self._trusted = complain, trusted

    @property
    def random(self) -> frozenset[str]:
        """Names of the modules that drew random numbers themselves, not by a module inside."""
        drew = [call.name for call in self.calls if call.drew]
        return frozenset(n for n in drew if not any(o != n and (not n or o.startswith(f"{n}.")) for o in drew))

    def __call__(self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the forward of a module, in its place.

        Raises:
            Exception: As `complain` says, if the module does not agree with the earlier pass.
        """
        self.steps += not name
        if self._flow is None:
            before = torch.default_generator.get_state()
            result = forward(*args, **kwargs)
            drew = not torch.equal(before, torch.default_generator.get_state())
        else:
            result, drew = self._followed(self._flow, name, partial(forward, *args, **kwargs)), False
        tensors = [t.detach().clone() for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.calls.append(Returned(name, tensors, drew))
        if self._earlier is not None and self._complain is not None and not self._agrees(name):
            raise self._complain(name, module)
        return result

    def _followed(self, flow: Dataflow, name: str, forward: Callable[[], Any]) -> Any:
        outer, flow.module = flow.module, name
        try:
            return forward()
        finally:
            flow.module = outer

    def _agrees(self, name: str) -> bool:
        assert self._earlier is not None
        index, now = len(self.calls) - 1, self.calls[-1]
        if index >= len(self._earlier.calls) or self._earlier.calls[index].name != name:
            return False
        then = self._earlier.calls[index].tensors
        if name in self._trusted:
            return True
        return len(then) == len(now.tensors) and all(map(self._same, then, now.tensors))

    def _same(self, a: Tensor, b: Tensor) -> bool:
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        if a.dim():
            a, b = self._part(a), self._part(b)
        if not a.numel() or not a.dtype.is_floating_point:
            return torch.equal(a, b)
        a, b = a.double(), b.double()
        finite = a[torch.isfinite(a)]
        size = float(finite.abs().max()) if finite.numel() else 0.0
        return torch.allclose(a, b, rtol=0.0, atol=1e-4 * size, equal_nan=True)
