"""A multilayer perceptron."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from spikewright._util.ranges import check_sizes
from spikewright.models._parts import NeuronFactory, Shape, check_arguments, check_choice, init_for_spikes


class MLP(nn.Module):
    """Multilayer perceptron: fully connected spiking layers and a linear readout.

    Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        hidden: Number of neurons of each hidden layer, each from 1 to 10**6. Default: (256,).
        bias: True gives the linear maps biases. Default: True.
        init: "spikes" (currents of unit variance, zero bias) or "torch" (the initialisation of `nn.Linear`).
            Default: "spikes".

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range.

    >>> from spikewright.models import MLP
    >>> import torch
    >>> import spikewright as sw
    >>> net = sw.Network(MLP((1, 8, 8), 10, sw.LIF, hidden=(32,)))
    >>> net(torch.rand(6, 2, 1, 8, 8)).shape  # [time, batch, class]
    torch.Size([6, 2, 10])
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        hidden: tuple[int, ...] = (256,),
        bias: bool = True,
        init: Literal["spikes", "torch"] = "spikes",
    ) -> None:
        super().__init__()
        check_arguments("MLP", shape, classes, neuron, bias=bias)
        check_sizes("MLP", hidden=hidden)
        check_choice("MLP", "init", init, ("spikes", "torch"))
        sizes = (shape[0] * shape[1] * shape[2], *hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out, bias), neuron()]
        self.features = nn.Sequential(*layers)
        self.readout = nn.Linear(sizes[-1], classes, bias)
        if init == "spikes":
            init_for_spikes(self.features)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.features(x))
