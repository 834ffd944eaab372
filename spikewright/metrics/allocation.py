"""Working memory: the bytes that torch hands out, those inside of operations included."""

from collections.abc import Iterable
from itertools import accumulate
from types import TracebackType
from typing import Any

import torch

from spikewright.errors import ConfigError

_autograd: Any = torch.autograd


class AllocatedBytes:
    """Context manager that measures the most memory that torch has handed out at one time, above that at the start.

    All tensors of this thread count, on all devices: parameters' gradients, states, graphs, and the buffers that
    operations need inside, such as those of a convolution.  What other libraries allocate does not.

    Attributes:
        peak: Most bytes at one time, known when the context is left.

    Raises:
        ConfigError: A profiler of torch is active in this thread, whose place the measurement needs.

    >>> from spikewright.metrics import AllocatedBytes
    >>> import torch
    >>> with AllocatedBytes() as allocated:
    ...     for _ in range(3):
    ...         _ = torch.ones(1000).exp().sum()  # freed before the next
    >>> allocated.peak
    8004
    """

    def __init__(self) -> None:
        self.peak = 0

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
        self.peak = _peak(_autograd._disable_profiler_legacy())


def _config(report_input_shapes: bool, profile_memory: bool) -> Any:
    stack = flops = modules = False
    experimental = torch._C._profiler._ExperimentalConfig()
    state = _autograd.ProfilerState.CPU  # of operations on the CPU; memory is that of all devices
    return _autograd.ProfilerConfig(state, report_input_shapes, profile_memory, stack, flops, modules, experimental)


def _peak(threads: Iterable[Iterable[Any]]) -> int:
    events = [event for thread in threads for event in thread if event.kind() == "memory_alloc"]
    events.sort(key=lambda event: event.start_us())  # stable: those of one thread are in order
    return max(accumulate((e.cpu_memory_usage() + e.cuda_memory_usage() for e in events), initial=0))
