"""Compare the activation memory of BPTT and OTTT on long sequences, then learn within one sequence of 2,000 steps."""

import torch
from torch import nn

import spikewright as sw

LENGTHS = (100, 500, 2000)
BATCH, FEATURES = 8, 32


def build() -> sw.Network:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(FEATURES, 64), sw.LIF(tau=10.0), nn.Linear(64, 64), sw.LIF(tau=10.0), nn.Linear(64, 4)
    )
    return sw.Network(layers)


def memory(rule: sw.rules.Rule) -> dict[int, int]:
    """Return the bytes saved for backward by number of time steps."""
    found = sw.plan(build(), rule, (LENGTHS[0], BATCH, FEATURES), report=LENGTHS)
    return {row.steps: row.saved_bytes for row in found.rows if row.steps in LENGTHS}


def train(steps: int) -> list[float]:
    """Learn which quarter of the inputs is active, with an update of the weights at every step."""
    net, rule, loss = build(), sw.rules.OTTT(online=True), sw.losses.PerStep(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(net.parameters(), lr=10.0)  # of a loss that is divided by the number of steps
    y = torch.arange(BATCH) % 4
    rates = 0.05 + 0.3 * nn.functional.one_hot(y, 4).repeat_interleave(FEATURES // 4, 1)
    x = torch.bernoulli(rates.expand(steps, *rates.shape), generator=torch.Generator().manual_seed(0))
    losses = []
    for update in rule.updates(net, x, y, loss):
        optimizer.step()
        optimizer.zero_grad()
        losses.append(update.loss.item() * steps)
    return losses


def main() -> tuple[dict[int, int], dict[int, int], tuple[float, float]]:
    torch.set_num_threads(1)
    bptt, ottt = memory(sw.rules.BPTT()), memory(sw.rules.OTTT())
    for steps in LENGTHS:
        print(f"{steps:5} steps: BPTT saves {bptt[steps] / 2**20:7.2f} MiB, OTTT {ottt[steps] / 2**20:.2f} MiB")
    losses = train(LENGTHS[-1])
    first, last = (sum(part) / len(part) for part in (losses[:100], losses[-100:]))
    print(f"OTTT within {LENGTHS[-1]} steps: mean loss {first:.3f} in the first 100, {last:.3f} in the last 100")
    return bptt, ottt, (first, last)


if __name__ == "__main__":
    main()
