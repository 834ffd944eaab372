r"""Backpropagation through time with surrogate slopes: the baseline, and what `certify` compares with."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from spikewright.losses import Loss, LossOf
from spikewright.network import Network
from spikewright.rules._base import Backward, Rule, Update, plain_backward
from spikewright.rules._pieces import Pieces
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
    Cost: activation memory grows with the number of steps, or with its root (`checkpoint`); one backward per sequence.
    Carried: nothing.  Checkpointed: nothing.

    Args:
        chunk: Steps that run together.  Without `checkpoint` the graph of all chunks is kept until the sequence ends,
            so this changes speed only.
        checkpoint: Keep only the state between chunks, and run each chunk once more when its turn in the backward pass
            comes: the memory of one chunk, for one more forward pass, and bit for bit the gradient of the same chunks
            kept.  With `chunk=None` a chunk is then the square root of the sequence, which needs the least memory.

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

    loss_of: LossOf = "any"
    through_time: bool = True
    bytes_for_spikes: bool = True

    def __init__(self, chunk: int | str | None = None, checkpoint: bool = False) -> None:
        super().__init__(chunk)
        self.checkpoint = checkpoint

    def steps_at_once(self, wiring: Wiring, x: Tensor) -> int:
        if self.checkpoint and self.chunk is None:
            return math.isqrt(len(x) - 1) + 1
        return super().steps_at_once(wiring, x)

    @property
    def linear_memory(self) -> bool:
        return not (self.checkpoint and self.chunk is None)

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
        pieces = Pieces(net, self, x, state, self.steps_at_once(net.wiring(x), x), keep=not self.checkpoint)
        with torch.enable_grad():
            value = loss(pieces.output, y, len(x))
        backward(value)
        pieces.backward()
        pieces.run.detach()
        yield Update(value.detach(), pieces.output.detach(), pieces.run.state, pieces.run)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, checkpoint={self.checkpoint}"
