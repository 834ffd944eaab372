"""Neurons that each break one contract."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.neurons import LIF, Dynamics, Neuron
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.temporal import SiteState


class Loop(Neuron):
    """A leaky neuron with a scan of its own: nothing is wrong with it."""

    kept, told = 0.5, 0.5
    size = 1.0

    def __init__(self, detach_reset: bool = True) -> None:
        surrogate = Sigmoid(4.0)
        super().__init__(threshold=1.0, reset="subtract", detach_reset=detach_reset, surrogate=surrogate, inplace=False)

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(
            decay=self.told, linear=True, rate_map=self.map, binary=True, soft_reset=True, detached_reset=True
        )

    def map(self, rate: Tensor) -> Tensor:
        return rate.clamp(0, 1)

    def fire(self, u: Tensor) -> Tensor:
        return self.surrogate(u - 1)

    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return u - s.detach()

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, sent = state.get("v", torch.zeros_like(x[0])), []
        for step in x:
            u = self.kept * v + step
            s = self.fire(u)
            v = self.after(u, s)
            v = v if through_time else v.detach()
            sent.append(self.size * s)
        return torch.stack(sent), {"v": v}


class Flat(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent.flatten(2), after


class Wide(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent.double(), after


class Silent(Loop):
    size = 0.0


class Slopeless(Loop):
    def fire(self, u: Tensor) -> Tensor:
        return (u >= 1).to(u)


class InPlace(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        found = super().scan(x, state, through_time)
        if "v" in state:
            state["v"].data.mul_(0.5)
        return found


class Amnesic(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, {}, through_time)


class Uncut(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, state, True)


class Mixed(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x - 0.1 * x.mean(1, keepdim=True), state, through_time)


class Loose(Loop):
    """Draws a constant that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = 0.5 + 0.4 * float(torch.rand(()))
        self.told = self.kept


class TwoDecays(Loop):
    told = torch.tensor([0.5, 0.5])  # type: ignore[assignment]


class Twice(Loop):
    size = 2.0

    def map(self, rate: Tensor) -> Tensor:
        return 2 * rate.clamp(0, 1)


class OwnForward(Loop):
    def forward(self, current: Tensor) -> Tensor:
        return super().forward(2 * current)


class Floor(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return super().after(u, s).clamp(min=-0.1)


class Counting(Loop):
    """Carries a number that is no tensor."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, Any]:
        sent, after = super().scan(x, state, through_time)
        return sent, {**after, "steps": 1.0}


class Squeezed(Loop):
    """Carries one sample without its axis."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent, {"v": after["v"].squeeze(0)}


class AmnesicOnMaps(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, {} if x.dim() > 3 else state, through_time)


class AmnesicInEvaluation(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x, state if self.training else {}, through_time)


class MixedOnMaps(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x - 0.1 * x.mean(1, keepdim=True) if x.dim() > 3 else x, state, through_time)


class MixedInEvaluation(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if self.training else x - 0.1 * x.mean(1, keepdim=True), state, through_time)


class OfSeveral(Loop):
    """Does something else with a sample by itself."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if x.shape[1] > 1 else 0.5 * x, state, through_time)


class SilentInEvaluation(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if self.training else 0 * x, state, through_time)


class SilentWithoutGradients(Loop):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x if torch.is_grad_enabled() or x.shape[1] == 8 else 0 * x, state, through_time)


class AlongTheWrongAxis(Loop):
    """Has a gain for each of three channels, and gives it to the last axis."""

    def gain_at(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64).to(x)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x * self.gain_at(x), state, through_time)


class ByColumn(AlongTheWrongAxis):
    """The same where there are as many as it takes."""

    def gain_at(self, x: Tensor) -> Tensor:
        return super().gain_at(x) if x.shape[-1] == 3 else torch.linspace(1, 2, x.shape[-1]).to(x)


class Untaught(Loop):
    """Has a gain that nothing arrives at."""

    def __init__(self) -> None:
        super().__init__()
        self.boost = nn.Parameter(torch.ones(()))

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(x * self.boost.detach(), state, through_time)


class SlopelessMap(Loop):
    def map(self, rate: Tensor) -> Tensor:
        return rate.detach().clamp(0, 1) + 0 * rate


class ThreeTimesTheSlope(Loop):
    def map(self, rate: Tensor) -> Tensor:
        value = rate.clamp(0, 1)
        return value.detach() + 3 * (value - value.detach())


class ByTheChunk(Surrogate):
    """A slope that looks at all of its argument."""

    def slope(self, x: Tensor) -> Tensor:
        return 1 / (1 + (x / (x.abs().max() + 1e-3)).square())


class GivenLater(LIF):
    def __init__(self) -> None:
        super().__init__()
        self.surrogate = ByTheChunk()


class GivenLaterInALoop(Loop):
    def __init__(self) -> None:
        super().__init__()
        self.surrogate = ByTheChunk()


class OtherDecay(Loop):
    told = 0.8


class HalfTheGradient(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        v = super().after(u, s)
        return 0.5 * (v + v.detach())


class Attached(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return u - s


class Hard(Loop):
    def after(self, u: Tensor, s: Tensor) -> Tensor:
        return u * (1 - s.detach())


class Adapting(Loop):
    """Has a threshold that rises with spikes, and does not declare it."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, w, sent = state.get("v", torch.zeros_like(x[0])), state.get("w", torch.zeros_like(x[0])), []
        for step in x:
            u = self.kept * v + step
            s = self.fire(u - w)
            v, w = self.after(u, s), 0.9 * w + 0.3 * s
            v, w = (v, w) if through_time else (v.detach(), w.detach())
            sent.append(s)
        return torch.stack(sent), {"v": v, "w": w}


class Constant(Loop):
    """Declares a threshold that adapts, and has none."""

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=self.told, linear=True, binary=True, soft_reset=True, detached_reset=True, adaptive=True)


class NoCurrent(Loop):
    """Declares a synaptic current, and has none."""

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=self.told, current_decay=0.5, linear=True, binary=True, soft_reset=True)


class OtherMap(Loop):
    kept = told = 1.0

    def map(self, rate: Tensor) -> Tensor:
        return rate.clamp(0, 1).square()


class FlatMap(Loop):
    def map(self, rate: Tensor) -> Tensor:
        return rate.detach().clamp(0, 1)


NEURONS: dict[str, tuple[str, Callable[[], Neuron]]] = {
    "flat": ("shape and type", Flat),
    "wide": ("shape and type", Wide),
    "silent": ("fires", Silent),
    "slopeless": ("live gradients", Slopeless),
    "in place": ("state not changed in place", InPlace),
    "amnesic": ("chunks", Amnesic),
    "counting": ("state", Counting),
    "squeezed": ("state", Squeezed),
    "amnesic on maps": ("chunks", AmnesicOnMaps),
    "amnesic in evaluation": ("chunks", AmnesicInEvaluation),
    "mixed on maps": ("samples apart", MixedOnMaps),
    "mixed in evaluation": ("samples apart", MixedInEvaluation),
    "of several": ("samples apart", OfSeveral),
    "silent in evaluation": ("evaluation", SilentInEvaluation),
    "silent without gradients": ("evaluation", SilentWithoutGradients),
    "along the wrong axis": ("shape and type", AlongTheWrongAxis),
    "by column": ("maps", ByColumn),
    "untaught": ("live gradients", Untaught),
    "slope by the chunk": ("chunks", GivenLater),
    "slope by the batch": ("samples apart", GivenLaterInALoop),
    "slopeless map": ("gradient of the rate map", SlopelessMap),
    "three times the slope": ("gradient of the rate map", ThreeTimesTheSlope),
    "uncut": ("credit cut", Uncut),
    "mixed": ("samples apart", Mixed),
    "loose": ("copies", Loose),
    "two decays": ("dynamics", TwoDecays),
    "twice": ("binary", Twice),
    "own forward": ("no forward", OwnForward),
    "floor": ("linear", Floor),
    "other decay": ("decay", OtherDecay),
    "no current": ("decay", NoCurrent),
    "adapting": ("soft, detached reset", Adapting),
    "constant": ("adaptive", Constant),
    "half the gradient": ("gradient by the decay", HalfTheGradient),
    "attached": ("soft, detached reset", Attached),
    "hard": ("soft reset", Hard),
    "other map": ("rate map", OtherMap),
    "flat map": ("rate map", FlatMap),
}
"""Name -> the contract it breaks, and how it is made."""
