"""Use an installed spikewright: `installed.py wheel|sdist ENVIRONMENT`; the sdist was installed without a compiler."""

import sys
import warnings
from pathlib import Path

import torch
from torch import nn

import spikewright as sw
from spikewright.kernels import native


def train() -> list[float]:
    torch.manual_seed(0)
    net, rule = sw.Network(nn.Sequential(nn.Linear(8, 32), sw.LIF(), nn.Linear(32, 2))), sw.rules.OTTT()
    loss, optimizer = sw.losses.PerStep(nn.CrossEntropyLoss()), torch.optim.Adam(net.parameters(), lr=0.02)
    y = torch.arange(32) % 2
    x = torch.rand(6, 32, 8) + y[:, None]
    losses = []
    for _ in range(40):
        for update in rule.updates(net, x, y, loss):
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(update.loss))
    return losses


def main(kind: str, environment: str) -> None:
    assert Path(sw.__file__).is_relative_to(environment), f"{sw.__file__} is not what was installed"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        losses = train()
    assert losses[-1] < losses[0] / 2, losses
    compiled = native.available(torch.zeros(1))
    notices = [str(warning.message) for warning in said if "without its compiled CPU kernels" in str(warning.message)]
    assert compiled == (kind == "wheel"), f"compiled kernels are {'' if compiled else 'not '}loaded"
    assert len(notices) == (kind == "sdist"), notices
    print(f"{kind}: loss {losses[0]:.3f} -> {losses[-1]:.3f}, compiled kernels: {compiled}", *notices)


if __name__ == "__main__":
    main(*sys.argv[1:])
