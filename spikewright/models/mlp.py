"""A multilayer perceptron."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from spikewright.models._parts import NeuronFactory, Shape, check_arguments, check_choice, check_counts, init_for_spikes


class MLP(nn.Module):
    """Fully connected spiking layers and a linear readout; all currents start with unit variance.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        hidden: Number of neurons in each hidden layer.
        bias: Whether the linear maps have biases.
        init: "spikes", such that all currents start with unit variance, or "torch", as layers are made.

    Raises:
        ShapeError: `shape` is not three positive sizes.
        ConfigError: another argument does not describe a network.
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
        check_arguments("MLP", shape, classes, neuron)
        check_counts("MLP", hidden=hidden)
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
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.readout(self.features(x))
