"""Train one network under several learning rules: only the line that makes the rule differs."""

import torch
from torch import nn

import spikewright as sw
from spikewright import data

STEPS, EPOCHS = 5, 3


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), sw.LIF(), nn.Linear(96, 48), sw.LIF(), nn.Linear(48, 10))


def encode(digits: data.Dataset, split: data.Split) -> torch.Tensor:
    """Repeat normalised images over time: `[time, batch, 1, 8, 8]`."""
    images = (split.images / 255 - digits.mean[0]) / digits.std[0]
    return images.expand(STEPS, *images.shape)


def accuracy(net: sw.Network, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        output, _ = net.run(x)
    return (output.mean(0).argmax(1) == y).float().mean().item()


def train(rule: sw.rules.Rule, loss: sw.losses.Loss, digits: data.Dataset) -> float:
    net = sw.Network(build())
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    x, y = encode(digits, digits.train), digits.train.labels
    order = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(y), generator=order).split(64):
            for _ in rule.updates(net, x[:, batch], y[batch], loss):
                optimizer.step()
                optimizer.zero_grad()
    return accuracy(net, encode(digits, digits.test), digits.test.labels)


def main() -> dict[str, float]:
    torch.set_num_threads(1)
    digits = data.load("digits")
    each_step, mean_output = (kind(nn.CrossEntropyLoss()) for kind in (sw.losses.PerStep, sw.losses.OnRate))
    found = {
        "BPTT": train(sw.rules.BPTT(), each_step, digits),
        "SLTT": train(sw.rules.SLTT(), each_step, digits),
        "OTTT": train(sw.rules.OTTT(), each_step, digits),
        "DSR": train(sw.rules.DSR(), mean_output, digits),
        "OTTT, DFA": train(sw.rules.OTTT(spatial=sw.spatial.DFA()), each_step, digits),
    }
    for name, value in found.items():
        print(f"{name:10}  test accuracy {value:.1%}")
    return found


if __name__ == "__main__":
    main()
