r"""Neurons with an alpha-shaped response, and how a run of them is read: one step, and the way back through it."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikewright.kernels import native
from spikewright.kernels.delays import DelayGrad, kernel_slope, slope_shares
from spikewright.kernels.operators import surrogate_number
from spikewright.neurons.alpha import alpha_constants
from spikewright.surrogate import Sigmoid, Surrogate, slope_at


@dataclass(frozen=True)
class AlphaDynamics:
    """Dynamics of the neurons of a graph, and how a run is read and differentiated.

    Attributes:
        steps: Length T of a run.
        tau: Time constant of current and membrane, in steps.
        threshold: Potential at which a neuron fires.
        decay: A spike at step t counts `decay ** t`, normalised to sum to 1.
        surrogate: Slope of a spike in the backward pass.
        delay_grad: Gradient of a delay.  "exact": of the response to spikes that arrive a fraction of a step later;
            "finite_difference": of delaying by one step; "reference": of the released code, which filters twice.
    """

    steps: int = 10
    tau: float = 4.0
    threshold: float = 2.0
    decay: float = 0.95
    surrogate: Surrogate = field(default_factory=Sigmoid)
    delay_grad: DelayGrad = "exact"

    @property
    def rho(self) -> float:
        """Fraction of a current or a membrane that is retained per step."""
        return alpha_constants(self.tau)[0]

    @property
    def gain(self) -> float:
        """Factor of the input in the current."""
        return alpha_constants(self.tau)[1]

    @property
    def shares(self) -> list[float]:
        """Share of a spike at each step in what is read."""
        powers = [self.decay**t for t in range(self.steps)]
        total = sum(powers)
        return [p / total for p in powers]

    @property
    def slopes(self) -> tuple[float, float]:
        """What a spike, and one a step earlier, give the gradient of the delay of a message."""
        return slope_shares(self.tau if self.delay_grad == "exact" else math.inf)

    def traces(self, histories: list[Tensor], dtype: torch.dtype) -> Tensor:
        r"""Return :math:`-\sum_k \kappa(t-k) s_k`, :math:`\kappa(i) = \tfrac{e}{\tau}(1-\tfrac{i+1}{\tau})\rho^i`."""
        return kernel_slope((torch.stack(histories) & 1).to(dtype), self.tau)[0]

    def charge(self, x: Tensor, before: Tensor, history: Tensor, current: Tensor, keep: bool) -> Tensor:
        """Return the potential after a step; tensors are `[N, B, D]`.

        Args:
            x: What synapses deliver.
            before: The potential of the step before; where the last bit of `history` is set, it was reset to 0.
            history: A byte of spikes.
            current: Becomes that of this step.
            keep: Leave `before` as it is.
        """
        potential = torch.empty_like(before) if keep else before
        if native.available(x):
            constants = self.rho, self.gain
            native.invoke(
                "alpha_step_charge", x.dtype, x.numel(), x.contiguous(), before, history, *constants, current, potential
            )
            return potential
        current.mul_(self.rho).add_(x, alpha=self.gain)
        return torch.add(current, before.masked_fill((history & 1).bool(), 0.0), alpha=self.rho, out=potential)

    def fire(self, potential: Tensor, history: Tensor, share: float, read: Tensor) -> Tensor:
        """Return the history with one bit more, and add what spikes count to `read`."""
        if native.available(read):
            after = torch.empty_like(history)
            native.invoke(
                "alpha_step_fire", read.dtype, read.numel(), potential, history, self.threshold, share, after, read
            )
            return after
        fired = potential >= self.threshold
        read.add_(fired, alpha=share)
        return (history << 1) | fired

    def back(
        self, spikes: Tensor, read: Tensor, potential: Tensor, share: float, membrane: Tensor, current: Tensor
    ) -> Tensor:
        """Return the gradient of x of a step.

        Args:
            spikes: Gradient that messages give spikes; is cleared.
            read: Gradient of what is read.
            potential: Of the step.
            share: What its spikes count.
            membrane: Gradient of the membrane after the step; becomes that of the one before it.
            current: Gradient that later steps give the current of this step; becomes that of the step before.
        """
        if native.available(spikes):
            number, parameter, factor = surrogate_number(self.surrogate)
            slopes = None if number else slope_at(self.surrogate, potential - self.threshold).contiguous()
            x = torch.empty_like(potential)
            constants = share, self.rho, self.gain, self.threshold, number, parameter, factor
            arrays = slopes, membrane, current, x
            read = read.contiguous()
            native.invoke("alpha_step_backward", x.dtype, x.numel(), spikes, read, potential, *constants, *arrays)
            return x
        g = torch.add(spikes, read, alpha=share).addcmul_(membrane, potential, value=-1)
        g.mul_(slope_at(self.surrogate, potential - self.threshold))
        g.add_(membrane.masked_fill(potential >= self.threshold, 0.0))
        spikes.zero_()
        current.add_(g)
        x = current * self.gain
        current.mul_(self.rho)
        torch.mul(g, self.rho, out=membrane)
        return x
