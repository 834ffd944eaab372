"""Check the gradient of a rule against BPTT, parameter by parameter, in a custom residual network."""

import torch
from torch import Tensor, nn

import spikewright as sw


class Block(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.inner, self.outer = sw.LIF(), sw.LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x + self.second(self.inner(self.first(x))))


class Residual(nn.Module):
    def __init__(self, channels: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.stem, self.neuron = nn.Conv2d(1, channels, 3, padding=1), sw.LIF()
        self.block, self.readout = Block(channels), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.block(self.neuron(self.stem(x))).mean((2, 3)))


def main() -> dict[str, sw.Certificate]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = sw.Network(Residual().double())  # in double precision, equal means equal to rounding
    x, y = 2 * torch.rand(6, 4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    loss = sw.losses.PerStep(nn.CrossEntropyLoss())
    rules = {"BPTT in chunks": sw.rules.BPTT(chunk=2), "SLTT": sw.rules.SLTT(), "OTTT": sw.rules.OTTT()}
    found = {name: sw.certify(net, rule, x, y, loss) for name, rule in rules.items()}
    for name, checked in found.items():
        print(f"{name}: {'all claims hold' if checked.ok else 'A CLAIM DOES NOT HOLD'}\n{checked.table()}\n")
    return found


if __name__ == "__main__":
    main()
