"""Spatial learning through time: backpropagation within a step, no gradient between steps."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from spikewright._util.ranges import check_count, check_flag, check_seed
from spikewright.errors import ConfigError
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Update
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._online import ChunkSpan, OnlineRule
from spikewright.spatial import BP, Local, Spatial


class SLTT(OnlineRule):
    r"""Spatial learning through time: each step is differentiated with the membrane potentials before it held constant.

    With :math:`u_l[t]` the membrane potential of layer l, :math:`s_l[t]` its spikes and :math:`\psi` the surrogate
    derivative,

    .. math::
        \delta_l[t] = \psi(u_l[t]) \odot W_{l+1}^\top \delta_{l+1}[t], \qquad
        \nabla W_l = \textstyle\sum_t \delta_l[t] \otimes s_{l-1}[t].

    Compared with BPTT, the omitted term at a distance of d steps is at most of the order :math:`\lambda^d`, with
    :math:`\lambda` the decay.  With `k` (SLTT-K) only k randomly drawn steps per batch are differentiated; the others
    run without a graph.

    **Exact when**: a parameter reaches no neuron (readouts), and no delay or feedback carries its signal to later
    steps; or the sequence has one step.

    **Cost**: one forward pass, and one backward pass per step, or k of them.  Activation memory is that of one chunk,
    whatever the number of steps.

    **Carried / Checkpointed**: nothing / `draws`, the number of draws so far (one integer), so that a resumed run draws
    the same steps.

    Args:
        k: Number of steps that are differentiated per batch.  At least 1 and at most the number of steps.
            Default: None, all steps.
        rescale: If True, multiply the gradient by steps / k, so that its expectation is the gradient of SLTT; the paper
            does not.  Default: False.
        seed: Seed of the drawn steps.  From 0 to 2**63 - 1.  Default: 0.
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.  Default: 1.
        spatial: How errors reach the layers within a step, an object of `spikewright.spatial`: `BP` (backpropagation),
            `FA`, `SignSymmetric`, `DFA`, `DKP`, `ZO` or `OPZO`.  Default: BP().
        local: A `spikewright.spatial.Local`, which gives every layer of neurons a trained readout and an error of its
            own.  Default: None, no local errors.

    Raises:
        ConfigError: `k` is not a whole number of at least 1, or above the number of steps; `seed` is not a whole number
            of at least 0; `rescale` is not a bool; `chunk` is neither a whole number of at least 1, nor None, nor a
            known text; `spatial` or `local` is not an object of its class; or `local` names an intermediate layer and
            `spatial` has no feedback matrices.
        IncompatibleRule: The loss is not per step.

    Differs from the reference code:
        Gradients do not.  The loss that is reported covers all steps also with `k`; theirs covers the k steps.

    Reference:
        Meng, Xiao, Yan, Wang, Lin, Luo, Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural
        Networks, ICCV 2023, arXiv 2302.14311, section 4.

    Examples:
        >>> import torch, spikewright as sw
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> x, y, loss = torch.rand(5, 2, 4), torch.tensor([0, 2]), sw.losses.PerStep(torch.nn.CrossEntropyLoss())
        >>> check = sw.certify(net, sw.rules.SLTT(), x, y, loss)
        >>> check.ok, [row.site for row in check.rows if row.exact]
        (True, ['2.weight', '2.bias'])
    """

    draws: Tensor

    def __init__(
        self,
        k: int | None = None,
        rescale: bool = False,
        seed: int = 0,
        chunk: Chunk = 1,
        spatial: Spatial = BP(),  # noqa: B008  (it has no state)
        local: Local | None = None,
    ) -> None:
        super().__init__(chunk, spatial, local)
        if k is not None:
            check_count("SLTT", "k", k, "at least one step per batch has to be differentiated")
        check_flag("SLTT", rescale=rescale)
        check_seed("SLTT", seed)
        self.k, self.rescale, self.seed = k, rescale, seed
        self.traits = replace(self.traits, least_steps=k or 1)
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def chunks(self, steps: int, size: int) -> Iterator[ChunkSpan]:
        if self.k is None:
            yield from super().chunks(steps, size)
            return
        drawn = self._draw(steps)
        for chunk in super().chunks(steps, size):
            start = chunk.start
            for stop in range(start + 1, chunk.stop + 1):
                if stop == chunk.stop or (stop in drawn) != (start in drawn):
                    yield ChunkSpan(start, stop, start in drawn)
                    start = stop

    def learn(self, batch: Batch) -> Iterator[Update]:
        if self.k is not None and self.k > (steps := len(batch.x)):
            raise ConfigError(f"SLTT(k={self.k}) was given a sequence of {steps} steps. Use k <= {steps}, or k=None.")
        if self.k is None or not self.rescale:
            return super().learn(batch)
        return super().learn(batch.weighted(len(batch.x) / self.k))

    def random_parts(self, steps: int) -> tuple[str, ...]:
        whole = self.k is None or self.k >= steps
        return (
            *super().random_parts(steps),
            *([] if whole else [f"the {self.k} of {steps} steps that SLTT learns from"]),
        )

    def trial_copy(self, chunk: int) -> Self:
        copy = super().trial_copy(chunk)
        copy.k, copy.traits = None, replace(self.traits, least_steps=1)
        return copy

    def cost(self, done: Done) -> Cost | None:
        return super().cost(done if self.k is None else replace(done, steps=min(self.k, done.steps)))

    def _draw(self, steps: int) -> set[int]:
        """Draw k of the steps; a function of the seed and of how many draws came before."""
        assert self.k is not None
        self.draws += 1
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.draws))
        return set(torch.randperm(steps, generator=generator)[: self.k].tolist())

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        all_steps = (self.k is None or self.k >= steps) and (steps == 1 or not wiring.receivers[parameter])
        return all_steps and self.reaches_as_bptt(parameter, wiring, steps)

    def extra_repr(self) -> str:
        return f"k={self.k}, rescale={self.rescale}, seed={self.seed}, {super().extra_repr()}"
