"""Time the fused neuron scan on a GPU against the step-by-step loop and against copying the bytes that it must move.

    python benchmarks/gpu_kernels.py

Forward and backward together.  The copy is the floor: no scan that reads and writes each array once is faster.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.kernels.operators import fused
from spikewright.surrogate import Sigmoid

SHAPES = [(32, 64, 1024), (6, 128, 128, 16, 16), (6, 128, 64, 32, 32)]
DTYPES = [torch.float32, torch.bfloat16]
OPTIONS: dict[str, Any] = {
    "leak": 0.5,
    "threshold": 1.0,
    "reset": "subtract",
    "detach_reset": True,
    "surrogate": Sigmoid(4.0),
    "through_time": True,
}


def milliseconds(work: Callable[[], object], repeats: int = 30) -> float:
    """Return the median time of one call, after a warm-up that compiles."""
    for _ in range(5):
        work()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for before, after in events:
        before.record()
        work()
        after.record()
    torch.cuda.synchronize()
    return sorted(before.elapsed_time(after) for before, after in events)[repeats // 2]


def training(scan: Callable[..., tuple[Tensor, Tensor]], current: Tensor, arriving: Tensor) -> Callable[[], object]:
    def work() -> object:
        spikes, _ = scan(current, None, **OPTIONS)
        return torch.autograd.grad(spikes, current, arriving)

    return work


def moved(current: Tensor) -> int:
    """Bytes: current and spikes, potential written and read, the gradients of spikes and current."""
    return current.numel() * (4 * current.itemsize + 2 * 4)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_kernels times kernels for GPUs, and torch finds none here. Run it on a machine with one.")
    if not fused(torch.empty(1, 1, device="cuda")):
        sys.exit("There are no fused scans for this GPU: they need Triton, and SPIKEWRIGHT_TRITON must not be 0.")
    print(torch.cuda.get_device_name())
    print(f"{'shape':26}{'dtype':10}{'fused ms':>10}{'loop ms':>10}{'copy ms':>10}{'loop/fused':>12}{'fused/copy':>12}")
    for shape in SHAPES:
        for dtype in DTYPES:
            current = (1.8 * torch.rand(shape, device="cuda") - 0.4).to(dtype).requires_grad_()
            arriving = torch.randn(shape, device="cuda").to(dtype)
            source = torch.empty(moved(current) // 2, dtype=torch.uint8, device="cuda")  # a copy reads and writes
            target = torch.empty_like(source)
            quick = milliseconds(training(lif_scan, current, arriving))
            loop = milliseconds(training(lif_naive, current, arriving))
            floor = milliseconds(lambda target=target, source=source: target.copy_(source))
            times = f"{quick:10.3f}{loop:10.3f}{floor:10.3f}{loop / quick:12.1f}{quick / floor:12.2f}"
            print(f"{shape!s:26}{str(dtype).removeprefix('torch.'):10}{times}")


if __name__ == "__main__":
    main()
