"""Backpropagation through time with surrogate gradients: the reference that `certify` compares with."""

from collections.abc import Iterator
from dataclasses import replace

from spikewright._util.ranges import check_flag
from spikewright.metrics.operations import Operations
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._kept_chunks import KeptChunks
from spikewright.rules._traits import Traits


class BPTT(Rule):
    r"""Backpropagation through time: the gradient of the unrolled network, with surrogate derivatives of the spikes.

    With :math:`u_l[t]` the membrane potential of layer l, :math:`s_l[t]` its spikes, :math:`\psi` the surrogate
    derivative and :math:`\epsilon_l[t] = \partial u_l[t+1] / \partial u_l[t]` the derivative through leak and reset,

    .. math::
        \delta_l[t] = \psi(u_l[t]) \odot W_{l+1}^\top \delta_{l+1}[t] + \epsilon_l[t] \odot \delta_l[t+1], \qquad
        \nabla W_l = \textstyle\sum_t \delta_l[t] \otimes s_{l-1}[t].

    **Exact when**: always; this rule defines the surrogate gradient that others are compared with.

    **Cost**: one forward and one backward pass per sequence.  Activation memory grows linearly with the number of
    steps; with `checkpoint` it is that of one chunk and of the states between chunks, for one more forward pass.

    **Carried / Checkpointed**: nothing / nothing.

    Args:
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: None.  Without `checkpoint` the
            graph of all chunks is kept until the sequence ends, so that a chunk saves no memory.
        checkpoint: If True, keep only the state between chunks and run each chunk again in the backward pass; gradients
            are bit for bit those of the same chunks without it.  With `chunk=None` a chunk is then the square root of
            the length.  Default: False.

    Raises:
        ConfigError: `chunk` is neither a whole number of at least 1, nor None, nor a known text; or `checkpoint` is not
            a bool.

    Reference:
        Neftci, Mostafa, Zenke, Surrogate Gradient Learning in Spiking Neural Networks, IEEE Signal Processing Magazine
        2019, arXiv 1901.09948.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> loss = sw.losses.OnRate(torch.nn.CrossEntropyLoss())
        >>> (update,) = sw.rules.BPTT().updates(net, torch.ones(5, 2, 4), torch.tensor([0, 2]), loss)
        >>> list(update.output.shape), net.module[0].weight.grad is not None
        ([5, 2, 3], True)
    """

    traits: Traits = Traits(
        loss="any", credit_through_time=True, gradients="layer hook", memory="linear", ragged=True, penalty=True
    )

    def __init__(self, chunk: Chunk = None, checkpoint: bool = False) -> None:
        check_flag("BPTT", checkpoint=checkpoint)
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
        size = batch.steps_at_once(self)
        chunks = KeptChunks(batch, size, keep=not self.checkpoint)
        value = chunks.loss()
        batch.backward(value)
        chunks.backward()
        chunks.run.detach()
        yield Update(value.detach(), chunks.output.detach(), chunks.run.state, chunks.run, penalty=chunks.penalty)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, checkpoint={self.checkpoint}"
