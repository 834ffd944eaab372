"""Time of neurons beside LIF: forward and backward of one layer, in turn, as ratios.

python benchmarks/neuron_scans.py --threads 1
"""

import argparse
import time

import torch
from torch import Tensor

import spikewright as sw

SHAPES = [(32, 64, 1024), (8, 32, 64, 32, 32)]
NEURONS = {
    "LIF": sw.LIF(),
    "IF": sw.IF(),
    "AlphaLIF": sw.AlphaLIF(),
    "AlphaLIF, soft": sw.AlphaLIF(reset="subtract"),
    "CUBALIF": sw.CUBALIF(),
    "ALIF": sw.ALIF(),
    "ALIF, current": sw.ALIF(tau_syn=2.0),
    "LI": sw.LI(),
    "max_spikes=None": sw.LIF(max_spikes=None),
    "lower_bound=-1": sw.LIF(lower_bound=-1.0),
    "strict": sw.LIF(strict=True),
    "late": sw.LIF(reset="late"),
    "learn_threshold": sw.LIF(learn_threshold=True),
}


def seconds(neuron: sw.Neuron, x: Tensor, arriving: Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    start = time.perf_counter()
    spikes, _ = neuron.scan(x, {}, True)
    spikes.backward(arriving)
    x.grad = None
    neuron.zero_grad()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for shape in SHAPES:
        x = torch.randn(shape).requires_grad_()
        arriving = torch.randn(shape)
        best = dict.fromkeys(NEURONS, float("inf"))
        for _ in range(options.repeats):
            for name, neuron in NEURONS.items():
                for _ in range(2):  # the first finds memory as the neurons before have left it
                    best[name] = min(best[name], seconds(neuron, x, arriving))
        for name, value in best.items():
            print(f"{list(shape)!s:24} {name:16} {1e3 * value:8.2f} ms  {value / best['LIF']:.2f} x LIF")


if __name__ == "__main__":
    main()
