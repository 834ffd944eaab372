"""The LeNet of SPIDE, with neurons after each pooling."""

from torch import Tensor, nn

from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_halvings,
    dropout_layers,
    init_filters,
    scaled,
)


class SpideLeNet(nn.Module):
    """LeNet 15C5-P2-40C5-P2-300 of SPIDE for MNIST, with neurons after every convolution and every pooling.

    Convolutions and linear maps have biases and normal weights of variance 2 / fan_in; the readout is linear. There is
    no feedback. Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        width: Multiplier of all channel and neuron counts, in (0, 100]. Default: 1.0.
        dropout: Dropout probability of the current of the 300 neurons, in [0, 1). Default: 0.5.

    Raises:
        ShapeError: `shape` is not three positive integers, or smaller than 4 x 4 pixels.
        ConfigError: Another argument is out of its range.

    Reference:
        Xiao et al., SPIDE: A Purely Spike-based Method for Training Feedback Spiking Neural Networks, Neural Networks
        2023, arXiv 2302.00232.
    """

    def __init__(
        self, shape: Shape, classes: int, neuron: NeuronFactory, *, width: float = 1.0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_arguments("SpideLeNet", shape, classes, neuron, width=width, dropout=dropout)
        check_halvings("SpideLeNet", shape, 2)
        channels = shape[0]
        layers: list[nn.Module] = []
        for size in (scaled(15, width), scaled(40, width)):
            layers += [nn.Conv2d(channels, size, 5, padding=2), neuron(), nn.AvgPool2d(2), neuron()]
            channels = size
        hidden = scaled(300, width)
        flat = channels * (shape[1] // 4) * (shape[2] // 4)
        layers += [nn.Flatten(), nn.Linear(flat, hidden), *dropout_layers(dropout), neuron()]
        self.features = nn.Sequential(*layers)
        self.readout = nn.Linear(hidden, classes)
        init_filters(self.features, "kaiming")

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.features(x))
