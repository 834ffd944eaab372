"""The feedback networks of the IDE and SPIDE papers, by their names there.

Defaults are those of the paper that introduced the network. `alexnet_f` and `cifarnet_f` are in both papers; those of
SPIDE have `norm="none", restriction="frobenius", limit=2.0, back_scale=0.1`.
"""

from collections.abc import Callable
from typing import Any

from spikewright._util.ranges import check_sizes
from spikewright.models._layers import Layers, Norm
from spikewright.models._parts import Filters, NeuronFactory, Shape
from spikewright.models._preset import preset
from spikewright.models.feedback import FeedbackNet, Restriction

_SPIDE: dict[str, Any] = {"norm": "none", "restriction": "frobenius", "init": "kaiming"}


def _preset(name: str, summary: str, layers: Layers, back: int, **defaults: Any) -> Callable[..., FeedbackNet]:
    """Return a constructor of `FeedbackNet` with these layers, this feedback kernel and other defaults."""
    return preset(name, FeedbackNet, summary, {"layers": layers, "back": back}, **defaults)


conv_f = _preset("conv_f", "Feedback network 64C5s (F64C5) of IDE, for MNIST", ("64C5s",), 5, dropout=0.2)
alexnet_f = _preset(
    "alexnet_f",
    "Feedback network AlexNet-F of IDE, for CIFAR",
    ("96C3s", "256C3", "384C3s", "384C3", "256C3"),
    3,
    dropout=0.2,
)
cifarnet_f = _preset(
    "cifarnet_f",
    "Feedback network CIFARNet-F of IDE, for CIFAR",
    ("128C3s", "256C3", "512C3s", "1024C3", "512C3"),
    3,
    dropout=0.2,
)
spide_conv_f = _preset(
    "spide_conv_f",
    "Feedback network 64C5s-64C5s-64C5 (F64C3u) of SPIDE, for MNIST",
    ("64C5s", "64C5s", "64C5"),
    3,
    dropout=0.2,
    limit=2.0,
    back_scale=0.1,
    **_SPIDE,
)
dvs_conv_f = _preset(
    "dvs_conv_f",
    "Feedback network 512C9s (F512C5) of SPIDE, for events of 48 x 48 pixels",
    ("512C9s",),
    5,
    limit=10.0,
    **_SPIDE,
)


def mlp_f(
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    hidden: tuple[int, ...] = (400,),
    width: float = 1.0,
    dropout: float = 0.2,
    norm: Norm = "batch",
    feedback: bool = True,
    restriction: Restriction = "spectral",
    limit: float = 1.0,
    init: Filters = "unit",
    back_scale: float = 1.0,
) -> FeedbackNet:
    """Feedback network 400 (F400) of IDE, for Fashion-MNIST: `FeedbackNet` with linear layers.

    Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        hidden: Number of neurons of each layer, each from 1 to 10**6. Default: (400,).
        width: Multiplier of all neuron counts, in (0, 100]. Default: 1.0.
        dropout: Dropout probability of every current, that of the feedback included, in [0, 1). Default: 0.2.
        norm: "batch" (batch normalisation of all currents but the feedback) or "none". Default: "batch".
        feedback: True adds the feedback; without it, the same seed gives the same other weights. Default: True.
        restriction: Norm of the feedback weight that is kept below `limit`: "spectral" or "operator" (largest singular
            value), "frobenius" or "none". Default: "spectral".
        limit: Upper bound of that norm, > 0. Default: 1.0.
        init: "unit" (uniform weights of unit norm per output neuron) or "kaiming" (normal, variance 2 / fan_in).
            Default: "unit".
        back_scale: Factor of the initial feedback weight, any finite number. Default: 1.0.

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range.

    Reference:
        Xiao et al., Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium State,
        NeurIPS 2021, arXiv 2109.14247.
    """
    check_sizes("mlp_f", hidden=hidden)
    return FeedbackNet(
        shape,
        classes,
        neuron,
        layers=hidden,
        width=width,
        dropout=dropout,
        norm=norm,
        feedback=feedback,
        restriction=restriction,
        limit=limit,
        init=init,
        back_scale=back_scale,
    )
