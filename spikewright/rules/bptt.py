r"""Backpropagation through time with surrogate slopes: the baseline, and what `certify` compares with."""

from collections.abc import Iterator
from dataclasses import replace

from spikewright.metrics.operations import Operations
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_size import Chunk, steps_at_once
from spikewright.rules._cost import Cost, Done
from spikewright.rules._kept_chunks import KeptChunks
from spikewright.rules._traits import Traits


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

    traits: Traits = Traits(loss="any", credit_through_time=True, gradients="layer hook", memory="linear")

    def __init__(self, chunk: Chunk = None, checkpoint: bool = False) -> None:
        super().__init__("root" if checkpoint and chunk is None else chunk)
        self.checkpoint = checkpoint
        if checkpoint and chunk is None:
            self.traits = replace(self.traits, memory="root")

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        drawn = steps > 1 and wiring.random  # anew in every chunk
        return parameter not in wiring.unvouched and (self.chunk is None or not (wiring.moving or drawn))

    def cost(self, done: Done) -> Cost | None:
        again = done.simulation if self.checkpoint else Operations()
        return Cost(done.steps * done.backward + again, done.weights_crossed)

    def learn(self, batch: Batch) -> Iterator[Update]:
        size = steps_at_once(self, batch.wiring, batch.x)
        chunks = KeptChunks(batch, size, keep=not self.checkpoint)
        value = chunks.loss()
        batch.backward(value)
        chunks.backward()
        chunks.run.detach()
        yield Update(value.detach(), chunks.output.detach(), chunks.run.state, chunks.run)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, checkpoint={self.checkpoint}"
