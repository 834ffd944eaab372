"""The comparison that decided how the CPU kernels are built: one neuron scan, forward and backward, four ways.

    python benchmarks/cpu_backend.py                  # needs a C++ compiler; numba is left out where not installed
    python benchmarks/cpu_backend.py --threads 1

All four compute the same: soft detached reset, the slope of the logistic function, and a backward pass that finds the
potential again from the current.  Ratios are to the C++ kernels; `first call` holds what is compiled at run time.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikewright._util.allocator import reuse_freed_memory
from spikewright._util.text import aligned
from spikewright.bench.measure import Spread, interleave
from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.surrogate import Sigmoid

LEAK, THRESHOLD, ALPHA = 0.5, 1.0, 4.0
NEURON: dict[str, Any] = {
    "leak": LEAK,
    "threshold": THRESHOLD,
    "reset": "subtract",
    "detach_reset": True,
    "surrogate": Sigmoid(ALPHA),
    "through_time": True,
}
Scan = Callable[[Tensor], Tensor]


def with_numba() -> Scan:
    """The same two passes over blocks of neurons, compiled by numba; raises `ImportError` without it."""
    import numba
    import numpy as np

    block = 512

    @numba.njit(parallel=True, error_model="numpy", boundscheck=False)
    def forward(x: Any, spikes: Any) -> None:
        steps, width = x.shape
        for b in numba.prange((width + block - 1) // block):
            first, last = b * block, min((b + 1) * block, width)
            v = np.zeros(last - first, x.dtype)
            for t in range(steps):
                for i in range(last - first):
                    u = x.dtype.type(LEAK) * v[i] + x[t, first + i]
                    s = x.dtype.type(1.0 if u >= THRESHOLD else 0.0)
                    spikes[t, first + i] = s
                    v[i] = u - x.dtype.type(THRESHOLD) * s

    @numba.njit(parallel=True, error_model="numpy", boundscheck=False, fastmath={"contract"})
    def backward(x: Any, grad: Any, out: Any) -> None:
        steps, width = x.shape
        one, alpha, leak = x.dtype.type(1), x.dtype.type(ALPHA), x.dtype.type(LEAK)
        for b in numba.prange((width + block - 1) // block):
            first, last = b * block, min((b + 1) * block, width)
            u = np.empty((steps, last - first), x.dtype)
            v, g = np.zeros(last - first, x.dtype), np.zeros(last - first, x.dtype)
            for t in range(steps):
                for i in range(last - first):
                    w = leak * v[i] + x[t, first + i]
                    u[t, i] = w
                    v[i] = w - x.dtype.type(THRESHOLD) * (one if w >= THRESHOLD else x.dtype.type(0))
            for t in range(steps - 1, -1, -1):
                for i in range(last - first):
                    e = np.exp(-abs(alpha * (u[t, i] - x.dtype.type(THRESHOLD))))
                    du = grad[t, first + i] * (alpha * e / ((one + e) * (one + e))) + g[i]
                    out[t, first + i] = du
                    g[i] = leak * du

    class Numba(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            spikes = torch.empty_like(x)
            forward(x.detach().flatten(1).numpy(), spikes.flatten(1).numpy())
            ctx.save_for_backward(x)
            return spikes

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            out = torch.empty_like(x)
            backward(x.detach().flatten(1).numpy(), grads[0].flatten(1).numpy(), out.flatten(1).numpy())
            return out

    return Numba.apply  # type: ignore[return-value]


class Step:
    def __init__(self, scan: Scan, x: Tensor, grad: Tensor) -> None:
        self.scan, self.x, self.grad = scan, x.clone().requires_grad_(), grad

    def clear(self) -> None:
        self.x.grad = None

    def run(self) -> Tensor:
        spikes = self.scan(self.x)
        spikes.backward(self.grad)
        return spikes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[32, 64, 1024], help="[time, batch, *feature]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reuse_freed_memory()
    torch.manual_seed(0)
    x, grad = 0.4 + 0.5 * torch.randn(options.shape), torch.randn(options.shape)

    scans: dict[str, Callable[[], Scan]] = {
        "C++": lambda: lambda x: lif_scan(x, None, **NEURON)[0],
        "numba": with_numba,
        "torch.compile": lambda: torch.compile(lambda x: lif_naive(x, None, **NEURON)[0], dynamic=False),
        "step by step": lambda: lambda x: lif_naive(x, None, **NEURON)[0],
    }
    steps, first = {}, {}
    rows = [("", "x C++: median [quartiles]", "ms", "first call, s", "spikes differ", "gradient differs")]
    for name, make in scans.items():
        began = time.perf_counter()
        try:
            step = Step(make(), x, grad)
            step.run()
        except ImportError as error:
            print(f"left out: {name}: {error}")
            continue
        first[name], steps[name] = time.perf_counter() - began, step
    expected = steps["step by step"]
    times = interleave(steps, options.repeats, in_a_row=9)
    for name, step in steps.items():
        differ = int((step.run() != expected.scan(x)).sum())
        expected.clear()
        expected.run()
        off = float((step.x.grad - expected.x.grad).abs().max())  # type: ignore[operator]
        ratios, ms = Spread.of(times.ratios(name, "C++") or []), Spread.of(times.seconds[name]).median * 1e3
        rows.append((name, str(ratios), f"{ms:.2f}", f"{first[name]:.2f}", str(differ), f"{off:.1e}"))
    print(f"LIF neurons, current {options.shape}, forward and backward, {options.threads} threads")
    print(aligned(rows))


if __name__ == "__main__":
    main()
