"""The state of modules during a probe, and the state they go back to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from spikewright._util.snapshot import Snapshot
from spikewright._util.trial import own_weights, restored
from spikewright._util.uncompiled import uncompiled
from spikewright.dataflow.storages import memory_of
from spikewright.layers.dropout import StepDropout
from spikewright.network.probing.hooks_of_others import hooks_on_gradient, take_off, unhook


class Start:
    """The state of modules before a probe.

    Args:
        module: The network's module.
        snapshot: Snapshot of it.
    """

    def __init__(self, module: nn.Module, snapshot: Snapshot) -> None:
        self._module, self._snapshot = module, snapshot
        self._copies: dict[Tensor, Tensor] = {}
        self._parameters = {_address(p): p for p in module.parameters() if not is_lazy(p)}
        self._hooks = [(p, list(hooks_on_gradient(p))) for p in module.parameters()]
        self._held = {
            _address(x): (name, key)
            for name, m in module.named_modules()
            for key, x in {**vars(m), **dict(m.named_buffers(recurse=False))}.items()
            if isinstance(x, Tensor) and not is_lazy(x)
        }
        self.rewritten: set[tuple[str, str]] = set()
        """Buffers and other tensors of modules that were written to."""
        self.written: frozenset[str] = frozenset()
        """Names of modules whose parameters were written to."""

    def quieten(self) -> None:
        """Put batch norm and shared dropout in evaluation mode, and take hooks off."""
        for m in self._module.modules():
            if isinstance(m, _BatchNorm | _DropoutNd) and not isinstance(m, StepDropout):
                m.training = False
        unhook(self._module)
        as_ordinary(self._module, self._copies)

    def again(self) -> None:
        """Put the modules back into that state, quietened."""
        with torch.no_grad():
            self._snapshot.put_back()
        self.quieten()

    def end(self) -> None:
        """Take off the hooks that a forward has put on parameters."""
        for parameter, before in self._hooks:
            take_off(parameter, before)

    def write(self, x: Tensor) -> None:
        """Take a parameter into the snapshot before a forward writes to it; writes of other threads are left alone."""
        address = _address(x)
        if address == 0:
            return
        if address in self._held:
            self.rewritten.add(self._held[address])
        parameter = self._parameters.pop(address, None)
        if parameter is not None:
            self._snapshot.add(parameter)
            named = self._module.named_modules()
            self.written |= {n for n, m in named if any(p is parameter for p in m.parameters(recurse=False))}


def _address(x: Tensor) -> int | None:
    """Return the address of the memory of a tensor, 0 if it is empty; `None` for sparse tensors, which are one."""
    memory = memory_of(x)
    return None if memory is None else memory[1]


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[Start]:
    """Let a module run uncompiled and with gradients possible, and put everything back afterwards, hooks included.

    Norms use running statistics meanwhile, and masks are off, except those that change from step to step, which the
    wiring must see.
    """
    with restored(module) as snapshot, torch.inference_mode(False), uncompiled(), own_weights():
        start = Start(module, snapshot)
        start.quieten()
        try:
            yield start
        finally:
            start.end()


def as_ordinary(module: nn.Module, copies: dict[Tensor, Tensor]) -> None:
    """Replace tensors made in inference mode, which cannot be in a graph, by copies, which `copies` keeps."""
    with torch.inference_mode(False):
        for m in module.modules():
            # One that is traced by TorchScript has neither parameters nor buffers of its own.
            places: list[Any] = [m.__dict__, *(m.__dict__.get(key, {}) for key in ("_parameters", "_buffers"))]
            for place in places:
                for name, x in place.items():
                    if isinstance(x, Tensor) and not is_lazy(x) and x.is_inference():
                        copy = nn.Parameter(x.clone(), x.requires_grad) if isinstance(x, nn.Parameter) else x.clone()
                        place[name] = copies.setdefault(x, copy)
