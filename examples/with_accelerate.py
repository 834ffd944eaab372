"""A rule in a loop with Accelerate, alone or under torchrun, to the weights of a plain loop."""

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spikewright as sw

RULE, LOSS, BATCH = sw.rules.OTTT(online=True), sw.losses.PerStep(nn.CrossEntropyLoss()), 16


def network() -> sw.Network:
    torch.manual_seed(0)
    return sw.Network(nn.Sequential(nn.Linear(20, 32), sw.LIF(), nn.Linear(32, 16), sw.LIF(), nn.Linear(16, 4)))


def data(batch: int) -> DataLoader[Any]:
    source = torch.Generator().manual_seed(1)
    return DataLoader(TensorDataset(torch.rand(64, 6, 20, generator=source), torch.arange(64) % 4), batch)


def learn(net: sw.Network, optimizer: Any, loader: Iterable[tuple[Tensor, Tensor]]) -> None:
    for x, y in loader:
        for _ in RULE.updates(net, x, y, LOSS, batch_first=True):
            sw.train.average_gradients(net)  # over processes; nothing in one
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()


def main() -> float:
    accelerator = Accelerator(cpu=True)
    net, other = network(), network()
    net.to(accelerator.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    # The network is not prepared: a rule runs it itself.  Each process gets its part of the samples.
    optimizer, loader = accelerator.prepare(optimizer, data(BATCH // accelerator.num_processes))
    learn(net, optimizer, loader)
    if accelerator.is_main_process:
        optimizer = torch.optim.AdamW(other.parameters(), lr=0.01)
        for x, y in data(BATCH):
            for _ in RULE.updates(other, x, y, LOSS, batch_first=True):
                nn.utils.clip_grad_norm_(other.parameters(), 0.5)
                optimizer.step()
                optimizer.zero_grad()
    pairs = zip(net.parameters(), other.to(accelerator.device).parameters(), strict=True)
    found = max((a - b).abs().max().item() for a, b in pairs)
    accelerator.print(f"{accelerator.num_processes} processes: largest difference to the plain loop {found}")
    return found


if __name__ == "__main__":
    main()
