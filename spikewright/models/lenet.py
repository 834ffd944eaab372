"""The LeNet of SPIDE, in which pooling fires too."""

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
    """15C5-P2-40C5-P2-300 of SPIDE, for MNIST: every pooling ends in neurons of its own; there is no feedback.

    Synapses have biases and start as in `FeedbackNet(init="kaiming")`; the readout is linear.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        width: Multiplier of all channel and neuron counts.
        dropout: Share removed of the current of the 300 neurons.

    Raises:
        ShapeError: `shape` is not three positive sizes, or too small for two poolings.
        ConfigError: another argument does not describe a network.

    Reference:
        Xiao et al., SPIDE: A Purely Spike-based Method for Training Feedback Spiking Neural Networks, Neural Networks
        2023, arXiv 2302.00232.
    """

    def __init__(
        self, shape: Shape, classes: int, neuron: NeuronFactory, *, width: float = 1.0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_arguments("SpideLeNet", shape, classes, neuron)
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
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.readout(self.features(x))
