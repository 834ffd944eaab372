"""Convolutional networks of SpikingJelly and snnTorch, trained here and evaluated in their own library.

A network is converted, its parameters are trained on MNIST by OTTT, SLTT and BPTT through the converted copy, and the
original then classifies test images in its own library.  Printed are the accuracy there before and after, the largest
difference between the outputs of the two (sums over the steps), and what `convert` says of the trained network: spikes
that differ, and how far from the threshold their potential is, in units in the last place.

    PYTHONPATH=path/to/libraries python benchmarks/interop_training.py --data-dir path/to/mnist
"""

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.data.mnist import mnist

RULES: dict[str, Callable[[], sw.rules.Rule]] = {"OTTT": sw.rules.OTTT, "SLTT": sw.rules.SLTT, "BPTT": sw.rules.BPTT}
BATCH = 64


def spikingjelly() -> nn.Module:
    neuron = import_module("spikingjelly.activation_based.neuron")
    return layers(lambda: neuron.LIFNode(tau=2.0, v_reset=None, detach_reset=True))


def snntorch() -> nn.Module:
    library = import_module("snntorch")
    return layers(lambda: library.Leaky(beta=0.5, init_hidden=True))


def layers(neuron: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), neuron(), nn.AvgPool2d(2), nn.Conv2d(16, 32, 3), neuron(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(800, 10),
    )  # fmt: skip


def rested(model: nn.Module) -> None:
    """Put the states of neurons back, by the function of their library."""
    if any(type(m).__module__.startswith("snntorch") for m in model.modules()):
        import_module("snntorch.utils").reset(model)
    else:
        import_module("spikingjelly.activation_based.functional").reset_net(model)


def theirs(model: nn.Module, images: Tensor, steps: int) -> Tensor:
    """Return the sum over the steps of what the model itself computes."""
    rested(model)
    with torch.no_grad():
        found = torch.stack([model(images) for _ in range(steps)]).sum(0)
    rested(model)
    return found


def over_time(images: Tensor, steps: int) -> Tensor:
    return images.expand(steps, *images.shape)


def trained(make: Callable[[], nn.Module], rule: sw.rules.Rule, data: Any, chosen: Any) -> str:
    torch.manual_seed(chosen.seed)
    model, steps = make(), chosen.steps
    with torch.no_grad():
        for layer in model:  # so that all layers fire at the start
            if isinstance(layer, nn.Conv2d):
                layer.weight.mul_(3)
    test, labels = data.test.images[: chosen.test].float() / 255, data.test.labels[: chosen.test]
    before = accuracy(theirs(model, test, steps), labels)
    converted = sw.interop.convert(model, over_time(test[:16], steps))
    net = sw.Network(converted.module)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    for order in torch.randperm(chosen.train, generator=torch.Generator().manual_seed(chosen.seed)).split(BATCH):
        x = over_time(data.train.images[order].float() / 255, steps)
        for _ in rule.updates(net, x, data.train.labels[order], loss):
            optimizer.step()
            optimizer.zero_grad()
    converted.write_back()
    own = theirs(model, test, steps)
    with torch.no_grad():
        here = net.eval().run(over_time(test, steps))[0].sum(0)
    apart = float((own - here).abs().max())
    where = sw.interop.convert(model, over_time(test, steps)).rows
    differing = "; ".join(
        f"{row.layer}: {row.differing} spikes, {row.free} in all ({row.reason})" for row in where if row.free
    )
    return f"{before:>8.3f}{accuracy(own, labels):>8.3f}{accuracy(here, labels):>8.3f}{apart:>12.2g}  {differing}"


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs.argmax(1) == labels).double().mean())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", required=True, help="folder with the files of MNIST")
    options.add_argument("--train", type=int, default=6000, help="number of training images")
    options.add_argument("--test", type=int, default=2000, help="number of test images")
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    data = mnist(chosen.data_dir)
    print(f"{'library':<14}{'rule':<6}{'before':>8}{'theirs':>8}{'here':>8}{'difference':>12}  differing spikes")
    for name, make in {"SpikingJelly": spikingjelly, "snnTorch": snntorch}.items():
        for rule, made in RULES.items():
            began = time.perf_counter()
            row = trained(make, made(), data, chosen)
            print(f"{name:<14}{rule:<6}{row}  {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
