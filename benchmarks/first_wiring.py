"""Time of the first wiring of a network beside one forward pass of one step, interleaved in one run.

python benchmarks/first_wiring.py [--repeats 30] [--batch 64]
"""

import argparse
import json
import statistics
import time

import torch

import spikewright as sw
from spikewright.models import create_model
from spikewright.train.result import versions


def seconds(work: object) -> float:
    began = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="samples of the forward pass that it is compared with")
    options = parser.parse_args()
    print(json.dumps(versions()))
    print(f"{'model':6} {'first wiring ms':>16} {'one step ms':>12} {'of 4 samples ms':>16} {'wiring / step':>14}")
    for name, shape in (("mlp", (1, 28, 28)), ("conv", (1, 28, 28))):
        torch.manual_seed(0)
        module = create_model(name, shape, 10, sw.LIF)
        x = torch.rand(6, options.batch, *shape)
        known = sw.Network(module)
        known.wiring(x)
        found: dict[str, list[float]] = {"wiring": [], "step": [], "small": []}
        for repeat in range(options.repeats + 3):
            fresh = sw.Network(module)
            times = {
                "wiring": seconds(lambda net=fresh: net.wiring(x)),
                "step": seconds(lambda: known.run(x[:1])),
                "small": seconds(lambda: known.run(x[:1, :4])),
            }
            for key, value in times.items():
                found[key] += [value] if repeat >= 3 else []
        wiring, step, small = (1000 * statistics.median(found[key]) for key in ("wiring", "step", "small"))
        print(f"{name:6} {wiring:16.2f} {step:12.2f} {small:16.2f} {wiring / step:14.2f}")


if __name__ == "__main__":
    main()
