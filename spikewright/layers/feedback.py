"""Feedback: the output of a later layer at the last step, sent back to an earlier one."""

from typing import Literal

import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_choice
from spikewright._util.real_numbers import real_type
from spikewright.temporal import SiteState, Temporal

First = Literal["nothing", "bias"]
"""What feedback adds at the first step."""


class Feedback(Temporal):
    r"""Feedback connection: adds the transformed output of another module at the previous step.

    .. math::
        y[t] = x[t] + f(s[t-1]), \qquad y[0] = x[0] \ \text{or}\ x[0] + f(0),

    with :math:`f` the transform and :math:`s` the output of the source.  Put it where the feedback arrives, between a
    layer and the neuron it feeds.  Where neurons send their spikes back to themselves, `spikewright.Recurrent` holds
    both.

    Cost: a network with feedback runs one step at a time, whatever chunk is asked for.  The state in a run is `last`,
    `[batch, *feature]` of the source.

    Args:
        transform: Map from the output of the source to the shape of `x`.  An `nn.Module`, such as `nn.Linear(10, 12)`
            or `nn.Sequential(nn.Upsample(scale_factor=8), nn.Conv2d(512, 64, 3, padding=1))`.
        source: Module whose output is sent back.  An `nn.Module` of the network, or its name as in `named_modules()`.
        first: What is added at the first step of a sequence.  "nothing" adds nothing, not even a bias; "bias" adds the
            transform of zeros :math:`f(0)`, which is the bias of a linear layer or a convolution.
            Default: "nothing".

    Raises:
        ConfigError: `first` is unknown.
        NetworkError: When the network is made: it has no such source.  In a run, with `first="bias"`: a step does not
            call the source, so that the shape of its output is not known.

    Reference:
        Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv 2210.04195, the
        network VGG-F.

    >>> import torch, spikewright as sw
    >>> neuron, back = sw.IF(), torch.nn.Linear(1, 1, bias=False)
    >>> _ = torch.nn.init.constant_(back.weight, -1.0)
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.Feedback(back, source=neuron), neuron))
    >>> net.run(torch.ones(4, 1, 1))[0].flatten().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, transform: nn.Module, source: nn.Module | str, first: First = "nothing") -> None:
        super().__init__()
        check_choice(type(self).__name__, "first", first, ("nothing", "bias"))
        self.transform = transform
        self.first: First = first
        # In a tuple, so that the source is not registered here a second time.
        self._source = (source,)

    @property
    def source(self) -> nn.Module | str:
        """Module whose output is sent back, or its name."""
        return self._source[0]

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        last = state.get("last")  # zeros at the first step, from the run, if the bias is added there
        if last is None:
            return x, state
        return x + self.sent_back(last, x).unflatten(0, x.shape[:2]), state

    def sent_back(self, last: Tensor, x: Tensor) -> Tensor:
        """Return what is added to an input.

        Args:
            last: Output of the source at the last step, `[batch, *feature]` of the source.
            x: Input, `[1, batch, *feature]`.
        """
        if not torch.is_autocast_enabled(x.device.type):
            kind = real_type(x.dtype)  # which may have changed since the last step
            last = last.to(kind.to_complex() if last.is_complex() else kind)
        return self.transform(last)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` unchanged: outside a run there is no previous step.

        Args:
            x: Input.  Tensor of any shape.
        """
        return x

    def extra_repr(self) -> str:
        return "" if self.first == "nothing" else f"first={self.first!r}"
