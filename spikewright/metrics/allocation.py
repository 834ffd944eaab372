"""Working memory: the bytes that torch hands out, those inside of operations included."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch

from spikewright.errors import ConfigError

_autograd: Any = torch.autograd
_profiler: Any = torch._C._profiler  # pyright: ignore[reportAttributeAccessIssue]


class AllocatedBytes:
    """Context manager that measures the most memory that torch has handed out at one time, above that at the start.

    All tensors of this thread count, on all devices: parameters' gradients, states, graphs, and the buffers that
    operations need inside, such as those of a convolution.  What other libraries allocate does not.  The measurement
    itself takes some hundred bytes per operation until it ends.

    Attributes:
        phases: Most bytes at one time in operations without a graph before the first backward pass, in those that
            build a graph, and in the rest; known when the context is left.
        peak: Most bytes at one time, the largest of the three.

    Raises:
        ConfigError: A profiler of torch is active in this thread, whose place the measurement needs.

    >>> from spikewright.metrics import AllocatedBytes
    >>> import torch
    >>> with AllocatedBytes() as allocated:
    ...     for _ in range(3):
    ...         _ = torch.ones(1000).exp().sum()  # freed before the next
    >>> allocated.peak
    8000
    """

    def __init__(self) -> None:
        self.phases = (0, 0, 0)

    @property
    def peak(self) -> int:
        return max(self.phases)

    def __enter__(self) -> "AllocatedBytes":
        if _autograd._profiler_enabled():
            raise ConfigError(
                "Working memory is to be measured, but a profiler of torch is active in this thread, and there can be "
                "one at a time. Measure before it starts; or, for a rule with a memory budget, learn from one batch "
                "before it starts, or give the rule a number of steps, such as chunk=1."
            )
        memory = {"report_input_shapes": False, "profile_memory": True}
        _autograd._enable_profiler_legacy(_config(**memory))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.phases = _phases(_autograd._disable_profiler_legacy())


def _config(report_input_shapes: bool, profile_memory: bool) -> Any:
    stack = flops = modules = False
    experimental = _profiler._ExperimentalConfig()
    state = _autograd.ProfilerState.CPU  # of operations on the CPU; memory is that of all devices
    return _autograd.ProfilerConfig(state, report_input_shapes, profile_memory, stack, flops, modules, experimental)


def _phases(threads: Iterable[Iterable[Any]]) -> tuple[int, int, int]:
    events = [event for thread in threads for event in thread]
    events.sort(key=lambda event: event.start_us())  # stable: those of one thread are in order
    held, peaks, inside, begun = 0, [0, 0, 0], [0], False
    for event in events:
        kind = event.kind()
        if kind == "push":
            inside.append(_phase(event, inside[-1]))
            begun = begun or inside[-1] == 2
        elif kind == "pop" and len(inside) > 1:
            inside.pop()
        elif kind == "memory_alloc":
            size = event.cpu_memory_usage() + event.cuda_memory_usage()
            held += size
            if size > 0:  # what is freed later belongs to no operation
                phase = inside[-1] or 2 * begun
                peaks[phase] = max(peaks[phase], held)
    return peaks[0], peaks[1], peaks[2]


def _phase(event: Any, outer: int) -> int:
    """Return 2 for an operation of a backward pass, 1 for one that gradients are enabled in, 0 for any other."""
    if outer == 2 or event.name().startswith("autograd::engine::evaluate_function"):
        return 2
    return max(outer, int(event.sequence_nr() >= 0))
