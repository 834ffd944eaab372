r"""Backpropagation through time with surrogate slopes: the baseline, and what `certify` compares with."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._base import Backward, Rule, Update, plain_backward
from spikewright.temporal import State
from spikewright.wiring import Wiring


class BPTT(Rule):
    r"""Backpropagation through time: the gradient of the unrolled network, spikes differentiated by their surrogate.

    With :math:`u_l[t]` the membrane, :math:`\psi` the surrogate slope and :math:`\epsilon_l[t] = \partial u_l[t+1] /
    \partial u_l[t]` through leak and reset,

    .. math::
        \delta_l[t] = \psi(u_l[t]) \odot W_{l+1}^\top \delta_{l+1}[t] + \epsilon_l[t] \odot \delta_l[t+1], \qquad
        \nabla W_l = \textstyle\sum_t \delta_l[t] \otimes s_{l-1}[t].

    Exact when: always; it defines the surrogate gradient.
    Cost: activation memory grows with the number of steps; one backward per sequence.
    Carried: nothing.  Checkpointed: nothing.

    Args:
        chunk: Steps that run together in the forward pass.  The graph of all chunks is kept until the sequence ends,
            so this changes speed only.

    Reference:
        Neftci, Mostafa, Zenke, Surrogate Gradient Learning in Spiking Neural Networks, IEEE Signal Processing
        Magazine 2019, arXiv 1901.09948.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
    >>> loss = sw.losses.OnRate(torch.nn.CrossEntropyLoss())
    >>> update, = BPTT().updates(net, torch.ones(5, 2, 4), torch.tensor([0, 2]), loss)
    >>> list(update.output.shape), net.module[0].weight.grad is not None
    ([5, 2, 3], True)
    """

    per_step: ClassVar[bool] = False
    through_time: ClassVar[bool] = True

    def __init__(self, chunk: int | None = None) -> None:
        super().__init__(chunk)

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return True

    def updates(
        self,
        net: Network,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        state: State | None = None,
        backward: Backward = plain_backward,
    ) -> Iterator[Update]:
        net.check(self, loss, x, y)
        run = net.start(x, state, rule=self)
        with torch.enable_grad():
            output = torch.cat([run.advance(chunk) for chunk in x.split(self.chunk or len(x))])
            value = loss(output, y, len(x))
        backward(value)
        run.detach()
        yield Update(value.detach(), output.detach(), run.state, run)
