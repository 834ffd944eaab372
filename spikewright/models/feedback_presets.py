"""The networks with feedback that IDE and SPIDE were measured on, by the names and in the notation of the papers.

The defaults are those of the paper that has the network; `alexnet_f` and `cifarnet_f` are in both, and SPIDE has them
with `norm="none", restriction="frobenius", limit=2.0, back_scale=0.1`.
"""

from collections.abc import Callable
from typing import Any

from spikewright.models._layers import Layers, Norm
from spikewright.models._parts import Filters, NeuronFactory, Shape, check_counts
from spikewright.models._preset import preset
from spikewright.models.feedback import FeedbackNet, Restriction

_SPIDE: dict[str, Any] = {"norm": "none", "restriction": "frobenius", "init": "kaiming"}


def _preset(name: str, summary: str, layers: Layers, back: int, **defaults: Any) -> Callable[..., FeedbackNet]:
    """Make a constructor that is `FeedbackNet` with these layers, this feedback and other defaults."""
    return preset(name, FeedbackNet, summary, {"layers": layers, "back": back}, **defaults)


conv_f = _preset("conv_f", "64C5s (F64C5) of IDE, for MNIST", ("64C5s",), 5, dropout=0.2)
alexnet_f = _preset(
    "alexnet_f", "AlexNet-F of IDE, for CIFAR", ("96C3s", "256C3", "384C3s", "384C3", "256C3"), 3, dropout=0.2
)
cifarnet_f = _preset(
    "cifarnet_f", "CIFARNet-F of IDE, for CIFAR", ("128C3s", "256C3", "512C3s", "1024C3", "512C3"), 3, dropout=0.2
)
spide_conv_f = _preset(
    "spide_conv_f",
    "64C5s-64C5s-64C5 (F64C3u) of SPIDE, for MNIST",
    ("64C5s", "64C5s", "64C5"),
    3,
    dropout=0.2,
    limit=2.0,
    back_scale=0.1,
    **_SPIDE,
)
dvs_conv_f = _preset(
    "dvs_conv_f", "512C9s (F512C5) of SPIDE, for events of 48 x 48 pixels", ("512C9s",), 5, limit=10.0, **_SPIDE
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
    """400 (F400) of IDE, for Fashion-MNIST; `hidden` are its layers, the other arguments those of `FeedbackNet`."""
    check_counts("mlp_f", hidden=hidden)
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
