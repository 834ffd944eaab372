"""Time of the first wiring of a network beside one forward pass of one step, interleaved in one run.

python benchmarks/first_wiring.py [--repeats 30] [--batch 64]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.models import create_model
from spikewright.train.result import versions


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(module: nn.Module, x: Tensor, repeats: int) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of first wirings, of one step of the batch, and of one step of four samples."""
    known = sw.Network(module)
    known.wiring(x)
    wirings, steps, small = [], [], []
    for repeat in range(repeats + 3):
        wiring = seconds(partial(sw.Network(module).wiring, x))
        step, few = seconds(partial(known.run, x[:1])), seconds(partial(known.run, x[:1, :4]))
        if repeat >= 3:
            wirings.append(wiring), steps.append(step), small.append(few)
    return wirings, steps, small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="samples of the forward pass that it is compared with")
    options = parser.parse_args()
    print(json.dumps(versions()))
    print(f"{'model':6} {'first wiring ms':>16} {'one step ms':>12} {'of 4 samples ms':>16} {'wiring / step':>14}")
    for name in ("mlp", "conv"):
        torch.manual_seed(0)
        module = create_model(name, (1, 28, 28), 10, sw.LIF)
        found = measured(module, torch.rand(6, options.batch, 1, 28, 28), options.repeats)
        wiring, step, small = (1000 * statistics.median(values) for values in found)
        print(f"{name:6} {wiring:16.2f} {step:12.2f} {small:16.2f} {wiring / step:14.2f}")


if __name__ == "__main__":
    main()
