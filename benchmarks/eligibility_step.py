"""Time of one training step of OTTT and EProp beside SLTT and BPTT, by kind of neuron, interleaved in one run.

One layer of neurons between linear layers, where traces are enough for some neurons and not for others; ratios count.

python benchmarks/eligibility_step.py [--repeats 20] [--inputs 128] [--neurons 256] [--steps 20] [--batch 32]
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn

import spikewright as sw
from spikewright.train.result import versions

NEURONS = {
    "LIF": lambda: sw.LIF(tau=4.0),
    "LIF, hard reset": lambda: sw.LIF(tau=4.0, reset="zero"),
    "AlphaLIF, soft reset": lambda: sw.AlphaLIF(threshold=1.0, reset="subtract", detach_reset=True),
    "AlphaLIF, hard reset": lambda: sw.AlphaLIF(threshold=1.0),
}
RULES = {"sltt": sw.rules.SLTT(), "bptt": sw.rules.BPTT(), "ottt": sw.rules.OTTT(), "eprop": sw.rules.EProp()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--inputs", type=int, default=128)
    parser.add_argument("--neurons", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.manual_seed(0)
    x, y = torch.rand(options.steps, options.batch, options.inputs), torch.randint(10, (options.batch,))
    loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    print(json.dumps(versions()))
    size = f"{options.inputs} inputs, {options.neurons} neurons, T = {options.steps}, N = {options.batch}"
    print(f"{size}, {options.repeats} interleaved repeats; saved: most bytes kept for a backward pass")
    columns = f"{'median ms':>10} {'ratio to sltt: median':>22} {'quartiles':>16} {'saved KiB':>10}"
    print(f"{'neuron':22} {'rule':6} {columns}")
    for kind, make in NEURONS.items():
        layers = nn.Linear(options.inputs, options.neurons), make(), nn.Linear(options.neurons, 10)
        net = sw.Network(nn.Sequential(*layers))
        seconds: dict[str, list[float]] = {name: [] for name in RULES}
        for repeat in range(options.repeats + 1):
            for name, rule in RULES.items():
                net.zero_grad()
                began = time.perf_counter()
                for _ in rule.updates(net, x, y, loss):
                    pass
                if repeat:
                    seconds[name].append(time.perf_counter() - began)
        for name, values in seconds.items():
            ratios = [a / b for a, b in zip(values, seconds["sltt"])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            lengths = options.steps, 2 * options.steps
            row = sw.plan(net, RULES[name], tuple(x.shape), measure=lengths, report=()).rows[0]
            shown = f"{1000 * statistics.median(values):10.1f} {middle:22.2f} {low:8.2f} {high:7.2f}"
            print(f"{kind:22} {name:6} {shown} {row.saved_bytes / 1024:10.0f}")


if __name__ == "__main__":
    main()
