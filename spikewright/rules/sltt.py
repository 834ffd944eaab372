"""Spatial learning through time: backpropagation within a step, nothing between steps."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.network.wiring import Wiring
from spikewright.rules._base import Update
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._online import ChunkSpan, OnlineRule
from spikewright.spatial import BP, Local, Spatial


class SLTT(OnlineRule):
    r"""Spatial learning through time: every step is differentiated as if the membranes it starts from were given.

    .. math::
        \delta_l[t] = \psi(u_l[t]) \odot W_{l+1}^\top \delta_{l+1}[t], \qquad
        \nabla W_l = \textstyle\sum_t \delta_l[t] \otimes s_{l-1}[t].

    What it drops is at most the leak to the power of the distance in time.  With `k` (SLTT-K) only that many randomly
    drawn steps per batch are differentiated; the others run without a graph.

    Exact when: a parameter reaches no neuron (readouts), and no delay or feedback carries its signal to later steps;
    or the sequence has one step.
    Cost: activation memory independent of the number of steps; one backward per step, or `k` of them.
    Carried: nothing.  Checkpointed: the number of draws so far, so that a resumed run draws the same steps.

    Args:
        k: Differentiate this many steps per batch; `None` all of them.
        rescale: Multiply the gradient by steps / k, so that the expected gradient is that of SLTT.  The paper does not.
        seed: Of the draw of steps.
        chunk: See `Rule`; 1 keeps the least memory.
        spatial: How errors get from the output to the layers, see `spikewright.spatial`.
        local: Readouts and errors of every layer beside that, see `spikewright.spatial.Local`.

    Raises:
        IncompatibleRule: The loss is not per step.
        ConfigError: `k` is below 1, or above the number of steps.

    Reference:
        Meng et al., Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks,
        ICCV 2023, arXiv 2302.14311, section 4.
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
        if k is not None and k < 1:
            raise ConfigError(f"SLTT(k={k}): at least one step per batch has to be differentiated.")
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
        if self.k is None or not self.rescale:
            return super().learn(batch)
        return super().learn(batch.weighted(len(batch.x) / self.k))

    def cost(self, done: Done) -> Cost | None:
        return super().cost(done if self.k is None else replace(done, steps=min(self.k, done.steps)))

    def _draw(self, steps: int) -> set[int]:
        """Draw k of the steps; a function of the seed and of how many draws came before."""
        assert self.k is not None
        if self.k > steps:
            raise ConfigError(f"SLTT(k={self.k}) was given a sequence of {steps} steps. Use k <= {steps}, or k=None.")
        self.draws += 1
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.draws))
        return set(torch.randperm(steps, generator=generator)[: self.k].tolist())

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        all_steps = (self.k is None or self.k >= steps) and (steps == 1 or not wiring.receivers[parameter])
        return all_steps and self.reaches_as_bptt(parameter, wiring, steps)

    def extra_repr(self) -> str:
        return f"k={self.k}, rescale={self.rescale}, seed={self.seed}, {super().extra_repr()}"
