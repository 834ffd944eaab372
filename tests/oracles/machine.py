"""One time step of a spiking network from `torch.nn.functional`, and the state that goes on to the next step.

A step program (see `programs.py`) calls `syn` for every weighted operation and `lif` for every neuron layer; the
machine keeps the membranes and the outputs of the previous step. Neuron: charge `u = leak * v + current` with
`leak = 1 - 1 / tau`, spike where `u >= 1`, then soft reset `v = u - s` or hard reset `v = u * (1 - s)`.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

Params = dict[str, Tensor]
Criterion = Callable[[Tensor, Tensor], Tensor]
ALPHA = 4.0


def surrogate(distance: Tensor) -> Tensor:
    """Slope of the logistic function of steepness 4, at `distance = u - threshold`; its peak is 1."""
    half = torch.tanh(ALPHA * distance / 2)
    return ALPHA / 4 * (1 - half * half)


class Spike(torch.autograd.Function):
    """A step at zero whose backward pass uses `surrogate`."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, upstream: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return upstream * surrogate(distance)


def weighted(x: Tensor, weight: Tensor, bias: Tensor | None, **conv: int) -> Tensor:
    """The linear map or the 2-d convolution that the rank of `weight` calls for."""
    return F.linear(x, weight, bias) if weight.dim() == 2 else F.conv2d(x, weight, bias, **conv)


class Machine:
    """Runs a step program over time; `cut` detaches whatever is carried from one step to the next."""

    def __init__(self, params: Params, cut: bool) -> None:
        self.params = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        self.cut = cut
        self.membranes: dict[str, Tensor] = {}
        self.leaks: dict[str, float] = {}
        self.past: dict[str, list[Tensor]] = {}
        self.now: dict[str, Tensor] = {}
        self.before: dict[str, Tensor] = {}

    def syn(self, name: str, x: Tensor, pre: str | None = None, post: str | None = None, **conv: int) -> Tensor:
        """Current of the synapse `name`; `pre` and `post` are the neuron layers it joins, None where there is none."""
        return weighted(x, self.params[f"{name}.weight"], self.params[f"{name}.bias"], **conv)

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        """Spikes of the neuron layer `name`; `attached` lets the gradient through the reset."""
        self.leaks[name] = 1 - 1 / tau
        charged = current + self.leaks[name] * self.membranes.get(name, torch.zeros_like(current))
        spikes = Spike.apply(charged - 1.0)
        fired = spikes if attached else spikes.detach()
        rest = charged * (1 - fired) if hard else charged - fired
        self.membranes[name] = rest.detach() if self.cut else rest
        self.now[name] = spikes
        return spikes

    def last(self, name: str) -> Tensor | None:
        """What the neuron layer `name` emitted one step ago; None at the first step."""
        spikes = self.before.get(name)
        return spikes.detach() if self.cut and spikes is not None else spikes

    def kept(self, sent: Tensor) -> Tensor:
        """What later steps see of what was sent."""
        return sent

    def run(self, program: Callable, x: Tensor) -> Iterator[Tensor]:
        """The readout of each step for the input `[time, batch, *feature]`."""
        for frame in x:
            self.before, self.now = self.now, {}
            yield program(frame, self)

    def gradients(self, loss: Tensor) -> Params:
        """Gradient of `loss` for every parameter, zero where the parameter had no part in it."""
        found = torch.autograd.grad(loss, list(self.params.values()), materialize_grads=True)
        return dict(zip(self.params, found))


def forward(program: Callable, params: Params, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Readouts `[time, batch, class]` and the spikes `[time, batch, *feature]` of every neuron layer."""
    machine, outputs, spikes = Machine(params, cut=True), [], []
    for output in machine.run(program, x):
        outputs.append(output.detach())
        spikes.append({name: value.detach() for name, value in machine.now.items()})
    return torch.stack(outputs), {name: torch.stack([step[name] for step in spikes]) for name in spikes[0]}
