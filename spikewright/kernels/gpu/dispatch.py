"""The Triton kernels for GPUs, offered as `spikewright.kernels.native` offers those for CPUs.

Triton is imported by the first call of a kernel: whoever has no GPU, or does not use it, pays nothing for it.
"""

import functools
import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from spikewright.kernels.layout import check_device

DTYPES = torch.float16, torch.bfloat16, torch.float32, torch.float64
RUNS_AGAIN = False
"""See `native.RUNS_AGAIN`."""
CAPABILITY = 7
"""The oldest generation of GPUs that Triton compiles for."""
KERNELS = {
    "lif": "lif",
    "lif_backward": "lif",
    "trace": "trace",
    "neuron": "neuron",
    "neuron_backward": "neuron_backward",
}
"""The module of each kernel."""
Arguments = Tensor | float | list[Tensor | None] | list[float] | None


def _found() -> bool:
    """Whether this torch can reach a GPU, Triton is installed, and nobody said not to use it."""
    reachable = torch.version.cuda is not None or torch.version.hip is not None
    return reachable and os.environ.get("SPIKEWRIGHT_TRITON") != "0" and find_spec("triton") is not None


FOUND = _found()


def available(x: Tensor) -> bool:
    """Whether the kernels can take `x`."""
    if not FOUND or x.device.type != "cuda" or x.dtype not in DTYPES:
        return False
    return torch.cuda.get_device_properties(x.device).major >= CAPABILITY


def call(name: str, first: Tensor, *arguments: Arguments) -> None:
    """Run a kernel; see `native.call`."""
    # Triton launches on the current device, which need not be that of the tensors.
    check_device(name, first.device, *arguments)
    with torch.cuda.device_of(first):
        _kernels()[name](first, *arguments)


@functools.cache
def _kernels() -> dict[str, Callable[..., None]]:
    try:
        modules = {name: importlib.import_module(f"spikewright.kernels.gpu.{name}") for name in set(KERNELS.values())}
    except ImportError as error:
        raise RuntimeError(
            f"The fused scans for GPUs need Triton, which is installed, but could not be imported ({error}). Install "
            "the version that belongs to your torch again, or set SPIKEWRIGHT_TRITON=0 to run step by step without it."
        ) from error
    return {name: getattr(modules[module], name) for name, module in KERNELS.items()}
