"""Time of one training step of each rule beside SLTT's, interleaved in one run; ratios are what counts.

python benchmarks/rule_step.py [--repeats 30] [--model conv] [--steps 6] [--batch 64] [--side 28]
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn

import spikewright as sw
from spikewright.models import create_model
from spikewright.train.result import versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--model", default="conv")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=28, help="of the square images")
    options = parser.parse_args()
    torch.manual_seed(0)
    net = sw.Network(create_model(options.model, (1, options.side, options.side), 10, sw.LIF))
    x = torch.rand(options.steps, options.batch, 1, options.side, options.side)
    y = torch.randint(10, (options.batch,))
    loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    rules = {"sltt": sw.rules.SLTT(), "ottt": sw.rules.OTTT(), "bptt": sw.rules.BPTT(), "sltt:k=2": sw.rules.SLTT(k=2)}
    rules |= {"opzo": sw.rules.OPZO(), "ottt:spatial=dfa": sw.rules.OTTT(spatial=sw.spatial.DFA())}

    def step(rule: sw.rules.Rule) -> float:
        net.zero_grad()
        began = time.perf_counter()
        for _ in rule.updates(net, x, y, loss):
            pass
        return time.perf_counter() - began

    for rule in rules.values():
        step(rule)
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for _ in range(options.repeats):
        for name, rule in rules.items():
            seconds[name].append(step(rule))
    print(json.dumps(versions()))
    size = f"{options.side} x {options.side}, T = {options.steps}, N = {options.batch}"
    print(f"{options.model} on {size}, {options.repeats} interleaved repeats")
    print(f"{'rule':16} {'median ms':>10} {'ratio to sltt: median':>22} {'quartiles':>16}")
    for name, values in seconds.items():
        ratios = sorted(a / b for a, b in zip(values, seconds["sltt"]))
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:16} {1000 * statistics.median(values):10.1f} {middle:22.3f} {low:8.3f} {high:7.3f}")


if __name__ == "__main__":
    main()
