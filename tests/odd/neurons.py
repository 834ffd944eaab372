"""Neurons for odd networks, each with the equation that the reference computes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikewright.neurons import DSRIF, DSRLIF, IF, LIF, AlphaLIF, Neuron
from spikewright.surrogate import Sigmoid
from spikewright.temporal import SiteState
from tests.odd.constructs import CONSTRUCTS
from tests.odd.module import WIDTH, Draw, OddNet
from tests.odd.reference import ALPHA, ALPHA_TAU, Equation


class Adaptive(Neuron):
    """A neuron of somebody else's, with a leak, and a scan of its own in which every spike raises the threshold."""

    def __init__(self) -> None:
        super().__init__(threshold=1.0, reset="subtract", detach_reset=True, surrogate=Sigmoid(), inplace=False)

    @property
    def leak(self) -> float:
        return 0.5

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, a, out = state.get("v", torch.zeros_like(x[0])), state.get("a", torch.zeros_like(x[0])), []
        for step in x:
            if not through_time:
                v, a = v.detach(), a.detach()
            u = 0.5 * v + step
            s = self.surrogate(u - 1 - 0.5 * a)
            v, a = u - s.detach(), 0.9 * a + s
            out.append(s)
        return torch.stack(out), {"v": v, "a": a}


def noted(neuron: Neuron, equation: Equation) -> nn.Module:
    """Return a neuron with its equation beside it."""
    neuron.equation = equation  # type: ignore[assignment]
    return neuron


def usual(tau: float = 2.0) -> nn.Module:
    return noted(LIF(tau=tau), Equation(1 - 1 / tau))


def _dsr(draw: Draw) -> nn.Module:
    below = 0.8 if draw.share() < 0.3 else 1.0  # of the floor
    if draw.share() < 0.5:
        neuron: Neuron = DSRIF(threshold=1.2, floor=1.0)
        equation = Equation(leak=1.0, threshold=0.5, floor=1.0)
    else:
        neuron = DSRLIF(tau=1.0, dt=0.5, threshold=0.5, floor=0.4)
        beta = math.exp(-0.5)
        equation = Equation(beta, threshold=0.3, floor=0.4, threshold_grad=0.25, gain=1 - beta, amplitude=2.0)
    if below < 1:
        with torch.no_grad():
            neuron.threshold.fill_(0.8 * equation.floor)  # type: ignore[operator, union-attr]
    return noted(neuron, equation)


def _per_channel(draw: Draw, channels: int) -> nn.Module:
    taus = [draw.pick(1.5, 2.0, 3.0, 5.0) for _ in range(channels)]
    if draw.share() < 0.4:
        return noted(LIF(tau=taus, learn_tau=True), Equation(None))
    return noted(LIF(tau=taus), Equation(tuple(1 - 1 / tau for tau in taus)))


def _one_in_a_list(draw: Draw, channels: int) -> nn.Module:
    return noted(LIF(tau=[2.5]), Equation(1 - 1 / 2.5))


def _scaled(draw: Draw, channels: int) -> nn.Module:
    neuron = LIF(tau=3.0, threshold=0.8, rest=-0.2, gain=1.2, amplitude=0.7)
    return noted(neuron, Equation(1 - 1 / 3.0, threshold=0.8, reset_amount=1.0, gain=1.2, amplitude=0.7))


NEURONS: dict[str, Callable[[Draw, int], nn.Module]] = {
    "hard_reset": lambda draw, channels: noted(LIF(tau=3.0, reset="zero"), Equation(1 - 1 / 3.0, soft=False)),
    "attached_reset": lambda draw, channels: noted(LIF(detach_reset=False), Equation(detached=False)),
    "tau_per_channel": _per_channel,
    "tau_in_a_list": _one_in_a_list,
    "learned_tau": lambda draw, channels: noted(LIF(tau=3.0, learn_tau=True), Equation(None)),
    "integrate_and_fire": lambda draw, channels: noted(IF(), Equation(1.0)),
    "alpha": lambda draw, channels: noted(AlphaLIF(tau=ALPHA_TAU, threshold=1.5), ALPHA),
    "dsr_neuron": lambda draw, channels: _dsr(draw),
    "scaled_neuron": _scaled,
    "own_scan": lambda draw, channels: noted(Adaptive(), Equation(0.5, kind="adaptive")),
}


def _placed(name: str) -> Callable[[OddNet, Draw], bool | None]:
    def place_it(net: OddNet, draw: Draw) -> bool | None:
        free = [place for place, neuron in enumerate(net.neurons) if getattr(neuron, "usual", False)]
        if not free:
            return False
        place = draw.pick(*free)
        shape = net.maps[place]
        net.neurons[place] = NEURONS[name](draw, WIDTH if shape is None else shape[0])
        return None

    return place_it


def three_leaks(net: OddNet, draw: Draw) -> bool | None:
    """Different leaks of the layers that are not of another kind."""
    leaks = [1.5, 4.0, 2.0, 6.0]
    shift = draw.whole(0, 3)
    for place, neuron in enumerate(net.neurons):
        if getattr(neuron, "usual", False):
            net.neurons[place] = usual(leaks[(place + shift) % 4])
            net.neurons[place].usual = True


def shared_neuron(net: OddNet, draw: Draw) -> bool | None:
    """One neuron module at two places."""
    places = [p for p, neuron in enumerate(net.neurons) if getattr(neuron, "usual", False) and net.maps[p] is None]
    if len(places) < 2:
        return False
    net.neurons[places[-1]] = net.neurons[places[-2]]


CONSTRUCTS["three_leaks"] = three_leaks
for _name in NEURONS:
    CONSTRUCTS[_name] = _placed(_name)
CONSTRUCTS["shared_neuron"] = shared_neuron
CONSTRUCTS["feedback"] = CONSTRUCTS.pop("feedback")  # which has to know the neurons
