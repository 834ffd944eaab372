"""BPTT written apart from the library: one call of the module per time step, differentiated by autograd.

`Unrolled` copies a drawn network and puts a small stateful module in the place of all that has a memory: neurons,
dropout, delays and feedback.  Each of them keeps one state per call within a step.  All else is the module's own code.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.layers import Feedback, StepDropout
from spikewright.layers.delay import SynapticDelay

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Equation:
    """What a drawn neuron computes; noted where it is drawn, so that nothing is asked of the library's neuron.

    Attributes:
        leak: Share of the potential that is left after a step; a tuple has one per channel, and `None` is the logistic
            function of the parameter `leak_logit`.
        soft: A spike takes `reset_amount` off the potential instead of returning it to zero.
        detached: The reset is left out of the derivative.
        threshold: Potential at which it fires.
        reset_amount: What a soft reset takes off.
        gain: Factor of the current.
        amplitude: What a spike carries.
        floor: The reset amount is the parameter `threshold`, kept above this, and potentials are in units of it.
        kind: "leaky"; "alpha" has a leaky current too; "adaptive" a threshold that rises with every spike.
    """

    leak: float | tuple[float, ...] | None = 0.5
    soft: bool = True
    detached: bool = True
    threshold: float = 1.0
    reset_amount: float = 1.0
    gain: float = 1.0
    amplitude: float = 1.0
    floor: float | None = None
    threshold_grad: float = 1.0
    kind: str = "leaky"


class Spike(torch.autograd.Function):
    """A step at zero, with the slope of the logistic function of steepness 4."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return grads[0] / torch.cosh(2 * distance) ** 2


class Stateful(nn.Module):
    """Keeps a state for each of its calls within a step."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[dict[str, Any]] = []
        self.calls = 0

    def begin_step(self) -> None:
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.calls == len(self.states):
            self.states.append({})
        self.calls += 1
        return self.step(x, self.states[self.calls - 1])

    def step(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        raise NotImplementedError


class Cell(Stateful):
    """A neuron layer."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.equation: Equation = neuron.equation  # type: ignore[assignment]
        for name, parameter in neuron.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.fired, self.seen = 0.0, 0

    def step(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        spikes = getattr(self, f"_{self.equation.kind}")(x, state)
        self.fired += (spikes.detach() != 0).double().mean().item()
        self.seen += 1
        return spikes

    def _leak(self, x: Tensor) -> float | Tensor:
        leak = torch.sigmoid(self.leak_logit) if self.equation.leak is None else self.equation.leak  # type: ignore
        if isinstance(leak, tuple):
            leak = torch.tensor(leak, dtype=x.dtype)
        if isinstance(leak, Tensor) and leak.dim():
            leak = leak.view(-1, *[1] * (x.dim() - 2))
        return leak

    def _leaky(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        e = self.equation
        unit: float | Tensor = 1.0
        if e.floor is not None:
            theta = self.threshold if isinstance(self.threshold, Tensor) else None  # type: ignore[attr-defined]
            assert theta is not None
            unit = theta.detach().clamp(min=e.floor) + e.threshold_grad * (theta - theta.detach())
        u = self._leak(x) * state.get("v", torch.zeros_like(x)) + e.gain * x / unit
        s = Spike.apply(u - e.threshold)
        reset = s.detach() if e.detached else s
        state["v"] = u - e.reset_amount * reset if e.soft else u * (1 - reset)
        return e.amplitude * s * unit

    def _alpha(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        e = self.equation
        nothing = torch.zeros_like(x)
        state["c"] = e.leak * state.get("c", nothing) + e.gain * x
        u = e.leak * state.get("v", nothing) + state["c"]
        s = Spike.apply(u - e.threshold)
        reset = s.detach() if e.detached else s
        state["v"] = u - e.threshold * reset if e.soft else u * (1 - reset)
        return s

    def _adaptive(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        nothing = torch.zeros_like(x)
        u = self.equation.leak * state.get("v", nothing) + x
        s = Spike.apply(u - 1 - 0.5 * state.get("a", nothing))
        state["v"], state["a"] = u - s.detach(), 0.9 * state.get("a", nothing) + s
        return s


class SequenceMask(Stateful):
    """Dropout by a mask that is drawn at the first step and kept to the end."""

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        self.dropout = dropout

    def step(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        if "mask" not in state:
            state["mask"] = self.dropout(torch.ones_like(x))
        return x * state["mask"]


class StepMask(Stateful):
    """Dropout by a mask that is a function of a seed and the step."""

    def __init__(self, dropout: StepDropout) -> None:
        super().__init__()
        self.p, self.on = dropout.p, dropout.training

    def step(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        if not self.on:
            return x
        seed = state["seed"] = state["seed"] + 1 if "seed" in state else int(torch.randint(2**62, ()))
        dropped = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < self.p
        return x.masked_fill(dropped, 0) / (1 - self.p)


class Delay(Stateful):
    """Spikes that arrive some whole steps later; the delay learns from what one more step would change."""

    def __init__(self, layer: SynapticDelay) -> None:
        super().__init__()
        self.longest, self.delay_logit = layer.max_delay, layer.delay_logit

    def step(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        past = state["past"] = [x, *state.get("past", [])][: self.longest + 2]
        past = past + [torch.zeros_like(x)] * (self.longest + 2 - len(past))
        delay = self.longest * torch.sigmoid(self.delay_logit)
        whole = delay.detach().round()
        arrived = sum((whole == d).to(x) * past[d] for d in range(self.longest + 1))
        later = sum((whole == d).to(x) * past[d + 1] for d in range(self.longest + 1))
        return arrived + (delay - delay.detach()) * (later - arrived).detach()  # type: ignore[operator, union-attr]


class Back(Stateful):
    """Adds what another module made at the last step."""

    def __init__(self, feedback: Feedback) -> None:
        super().__init__()
        self.transform, self.source = feedback.transform, feedback.source
        self.now: Tensor | None = None
        self.last: Tensor | None = None

    def begin_step(self) -> None:
        super().begin_step()
        self.last, self.now = self.now, None

    def take(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.now = output

    def step(self, x: Tensor, state: dict[str, Any]) -> Tensor:
        return x if self.last is None else x + self.transform(self.last)


class Unrolled:
    """A copy of a drawn network that is called once per time step."""

    def __init__(self, module: nn.Module) -> None:
        self.module = deepcopy(module)
        made: dict[nn.Module, Stateful] = {}
        for parent in list(self.module.modules()):
            for name, child in list(parent._modules.items()):
                kind = _stand_in(child)
                if kind is not None and child is not None:
                    parent._modules[name] = made.setdefault(child, kind(child))
        self.stateful = list(made.values())
        named = dict(self.module.named_modules(remove_duplicate=False))
        for back in self.stateful:
            if isinstance(back, Back):
                named[str(back.source)].register_forward_hook(back.take)

    def run(self, x: Tensor) -> Tensor:
        """Return the outputs `[time, batch, *output]`."""
        outputs = []
        for frame in x:
            for part in self.stateful:
                part.begin_step()
            outputs.append(self.module(frame))
        return torch.stack(outputs)

    def rates(self) -> dict[str, float]:
        """Return the share of neurons that fired in a step, by name of the neuron layer."""
        return {name: m.fired / m.seen for name, m in self.module.named_modules() if isinstance(m, Cell) and m.seen}


def _stand_in(child: nn.Module | None) -> Callable[[Any], Stateful] | None:
    if hasattr(child, "equation"):
        return Cell
    for kind, other in ((StepDropout, StepMask), (nn.Dropout, SequenceMask), (SynapticDelay, Delay), (Feedback, Back)):
        if isinstance(child, kind):
            return other
    return None


def gradients(module: nn.Module, x: Tensor, y: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]) -> Gradients:
    """Return the gradient of the mean over time of `criterion(output[t], y)`, by name; zero where there is none."""
    unrolled = Unrolled(module)
    outputs = unrolled.run(x)
    torch.stack([criterion(output, y) for output in outputs]).mean().backward()
    parameters = unrolled.module.named_parameters()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in parameters if p.requires_grad}


ALPHA_TAU = 2.0
ALPHA = Equation(
    leak=math.exp(-1 / ALPHA_TAU), gain=math.e / ALPHA_TAU, soft=False, detached=False, threshold=1.5, kind="alpha"
)
