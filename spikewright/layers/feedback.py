"""Feedback: the output of a later layer at the last step, sent back to an earlier one."""

import torch
from torch import Tensor, nn

from spikewright._util.real_numbers import real_type
from spikewright.temporal import SiteState, Temporal


class Feedback(Temporal):
    r"""Feedback connection: adds the transformed output of another module at the previous step.

    .. math::
        y[t] = x[t] + f(s[t-1]), \qquad y[0] = x[0],

    with :math:`f` the transform and :math:`s` the output of the source.  Put it where the feedback arrives, between a
    layer and the neuron it feeds.  At the first step nothing is added, not even a bias of the transform.

    Cost: a network with feedback runs one step at a time, whatever chunk is asked for.  The state in a run is `last`,
    `[batch, *feature]` of the source.

    Args:
        transform: Map from the output of the source to the shape of `x`.  An `nn.Module`, such as `nn.Linear(10, 12)`
            or `nn.Sequential(nn.Upsample(scale_factor=8), nn.Conv2d(512, 64, 3, padding=1))`.
        source: Module whose output is sent back.  An `nn.Module` of the network, or its name as in `named_modules()`.

    Raises:
        NetworkError: When the network is made: it has no such source.

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

    def __init__(self, transform: nn.Module, source: nn.Module | str) -> None:
        super().__init__()
        self.transform = transform
        # In a tuple, so that the source is not registered here a second time.
        self._source = (source,)

    @property
    def source(self) -> nn.Module | str:
        """Module whose output is sent back, or its name."""
        return self._source[0]

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        last = state.get("last")
        if last is None:
            return x, state
        if not torch.is_autocast_enabled(x.device.type):
            kind = real_type(x.dtype)  # which may have changed since the last step
            last = last.to(kind.to_complex() if last.is_complex() else kind)
        return x + self.transform(last).unflatten(0, x.shape[:2]), state

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` unchanged: outside a run there is no previous step.

        Args:
            x: Input.  Tensor of any shape.
        """
        return x
