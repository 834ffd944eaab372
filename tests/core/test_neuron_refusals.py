"""What the arguments of neurons refuse, each with several members, by the text of the message."""

from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, ShapeError
from spikewright.layers import Recurrent
from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF, Neuron
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.temporal import SiteState

KINDS: dict[str, Callable[..., Neuron]] = {"IF": IF, "LIF": LIF, "CUBALIF": CUBALIF, "ALIF": ALIF}
kinds = pytest.mark.parametrize("kind", KINDS)


class Stepped(Surrogate):
    """Has a step function of its own."""

    def __repr__(self) -> str:
        return "Stepped()"

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x >= 0, torch.ones_like(x), 0.1 * torch.ones_like(x))

    def slope(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


NAN, INF = float("nan"), float("inf")
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nan among channels": ({"threshold": [1.0, NAN]}, r"threshold enters every step.* Give finite numbers"),
    "inf among channels": ({"gain": [1.0, INF]}, r"gain enters every step"),
    "no channels": ({"threshold": []}, r"threshold is one number, or one per channel"),
    "no channels in a tensor": ({"gain": torch.empty(0)}, r"gain is one number, or one per channel"),
    "uneven rows": ({"threshold": [[1.0], [1.0, 2.0]]}, r"threshold is one number, or one per channel"),
    "text among channels": ({"threshold": ["1", "2"]}, r"threshold is one number, or one per channel"),
    "beyond floats": ({"gain": [1.0, 10**400]}, r"gain is one number, or one per channel|Give finite numbers"),
    "an infinite number": ({"threshold": INF}, r"threshold=inf"),
    "a threshold with a gradient": (
        {"threshold": torch.ones(3, requires_grad=True)},
        r"constant, and no gradient would reach it. Give threshold.detach\(\); to train it, learn_threshold=True",
    ),
    "a start value with a gradient": (
        {"gain": torch.ones(3, requires_grad=True), "learn_gain": True},
        r"gain is a start value, and no gradient would reach it",
    ),
    "a threshold of 0": ({"threshold": 0.0}, r"the threshold must be above 0"),
    "a negative threshold": ({"threshold": -1.0}, r"the threshold must be above 0"),
    "0 among thresholds": ({"threshold": [1.0, 0.0]}, r"the threshold must be above 0"),
    "a learned threshold of 0": ({"threshold": 0.0, "learn_threshold": True}, r"the threshold must be above 0"),
    "rest at the threshold": ({"rest": 1.0}, r"rest must be below the threshold"),
    "rest above one of the thresholds": ({"threshold": [1.0, 2.0], "rest": 1.5}, r"rest must be below the threshold"),
    "rest per channel": ({"threshold": 1.0, "rest": [0.0, 1.0]}, r"rest must be below the threshold"),
    "rest for other channels": (
        {"threshold": [1.0, 1.5], "rest": [0.5, 0.5, 0.1]},
        r"not as many of one as of the other",
    ),
    "rest with a hard reset": ({"rest": -0.5, "reset": "zero"}, r"a hard reset sets the potential to 0"),
    "rest with a late reset": ({"rest": -0.5, "reset": "late"}, r"a late one takes the threshold off a step later"),
    "rest per channel with a late reset": ({"rest": [0.0, 0.5], "reset": "late"}, r"both ignore rest"),
    "amplitude 0": ({"amplitude": 0.0}, r"no gradient comes back. Give a number other than 0"),
    "amplitude per channel": ({"amplitude": [1.0, 2.0]}, r"amplitude"),
    "a trained amplitude": ({"amplitude": nn.Parameter(torch.ones(()))}, r"train the weights or a normalisation"),
    "negative noise": ({"noise": -0.1}, r"standard deviation, which cannot be negative"),
    "unknown reset": ({"reset": "latest"}, r"reset='latest'\) is unknown. Did you mean 'late'"),
    "a reset that is no text": ({"reset": 0}, r"Known: late, subtract, zero"),
    "no spike": ({"max_spikes": 0}, r"Give a whole number of at least 1, or None for no limit"),
    "a negative number of spikes": ({"max_spikes": -1}, r"Give a whole number of at least 1"),
    "a share of a spike": ({"max_spikes": 1.5}, r"Give a whole number of at least 1"),
    "spikes by a flag": ({"max_spikes": True}, r"Give a whole number of at least 1"),
    "endless spikes": ({"max_spikes": INF}, r"Give a whole number of at least 1, or None"),
    "several and strict": ({"max_spikes": 2, "strict": True}, r"counts how often .* not defined with strict=True"),
    "several and rest": ({"max_spikes": None, "rest": -0.5}, r"not defined with rest. Use one spike per step"),
    "several and late": ({"max_spikes": 2, "reset": "late"}, r"not defined with reset='late'"),
    "several and an attached hard reset": (
        {"max_spikes": None, "reset": "zero", "detach_reset": False},
        r"not defined with an attached hard reset",
    ),
    "several and an own step": ({"max_spikes": 3, "surrogate": Stepped()}, r"a step function of the surrogate's own"),
    "several of these": (
        {"max_spikes": 2, "strict": True, "rest": -0.5},
        r"not defined with strict=True and rest. Use one",
    ),
    "a bound above rest": ({"lower_bound": 0.1}, r"potentials start at rest, which is 0.* Give a number of at most 0"),
    "an infinite bound": ({"lower_bound": -INF}, r"lower_bound"),
    "a bound that is none": ({"lower_bound": NAN}, r"lower_bound"),
    "a bound per channel": ({"lower_bound": [-1.0, -2.0]}, r"lower_bound"),
    "unknown potential": ({"potential": "before"}, r"potential='before'\) is unknown. Did you mean 'before reset'"),
    "a potential by a flag": ({"potential": True}, r"Known: after reset, before reset"),
    "strict as a number": ({"strict": 1}, r"strict"),
    "learn_threshold as text": ({"learn_threshold": "yes"}, r"learn_threshold"),
    "learn_gain as a number": ({"learn_gain": 1.0}, r"learn_gain"),
    "detach_reset as none": ({"detach_reset": None}, r"detach_reset"),
    "a surrogate class": ({"surrogate": Sigmoid}, r"object with a method slope"),
    "a surrogate name": ({"surrogate": "sigmoid"}, r"object with a method slope"),
}


@kinds
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_refused_by_name(kind: str, case: str) -> None:
    arguments, message = BAD[case]
    with pytest.raises(ConfigError, match=rf"(?s){kind}\(.*{message}") as caught:
        KINDS[kind](**arguments)
    assert any(name in str(caught.value) for name in arguments)


RIGHT: list[dict[str, Any]] = [
    {"threshold": torch.tensor([0.5, 1.0]), "learn_threshold": True, "learn_gain": True},
    {"threshold": numpy.array([0.5, 1.0])},
    {"threshold": (1, 2), "rest": [-1, 0]},
    {"max_spikes": 1, "strict": True, "rest": -1},
    {"max_spikes": None, "reset": "zero"},
    {"max_spikes": 7, "detach_reset": False, "lower_bound": 0},
    {"surrogate": Stepped(), "potential": "after reset"},
    {"lower_bound": -1e30, "potential": "before reset"},
    {"threshold": torch.tensor(0.5)},
]


@kinds
@pytest.mark.parametrize("given", RIGHT, ids=str)
def test_what_is_right_is_accepted(kind: str, given: dict[str, Any]) -> None:
    neuron = KINDS[kind](**{k: v for k, v in given.items() if not (kind == "IF" and k == "tau")})
    spikes = neuron.scan(torch.ones(3, 1, 2), {}, True)[0]
    assert spikes[0].shape if isinstance(spikes, tuple) else spikes.shape == (3, 1, 2)


@pytest.mark.parametrize("kind", [LIF, CUBALIF, ALIF])
@pytest.mark.parametrize("tau", [1.0, [2.0, 1.0], torch.tensor([1.0, 1.0])], ids=str)
def test_a_late_reset_needs_a_leak(kind: Callable[..., Neuron], tau: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(reset='late'\) takes the threshold off a step after .* tau above 1"):
        kind(tau=tau, reset="late")


def test_a_late_reset_of_a_class_without_leak_is_refused() -> None:
    class Memoryless(Neuron):
        leak = 0.0

    neuron = Memoryless(threshold=1.0, reset="late", detach_reset=True, surrogate=Sigmoid(4.0), inplace=False)
    with pytest.raises(ConfigError, match=r"Memoryless\(reset='late'\) takes the threshold off a step after"):
        neuron.scan(torch.ones(2, 1, 1), {}, True)


@pytest.mark.parametrize("kind", [LIF, LI])
def test_tied_gains(kind: Callable[..., Neuron]) -> None:
    for text in ("1/Tau", "tau", ""):
        with pytest.raises(ConfigError, match=rf"gain='{text}'\) is unknown.*1/tau"):
            kind(gain=text)
    assert kind(tau=4.0, gain="1/tau").input_gain == 0.25


def test_a_tied_gain_is_not_trained_by_itself() -> None:
    with pytest.raises(ConfigError, match=r"ties the input scale to tau and trains it as well. Use gain='1/tau'"):
        LIF(gain="1/tau", learn_gain=True)


@pytest.mark.parametrize("reset", ["zero", "late"])
def test_a_moving_reset_is_soft(reset: Any) -> None:
    with pytest.raises(ConfigError, match=rf"ALIF\(moving_reset=True, reset='{reset}'\).*Use reset='subtract'"):
        ALIF(moving_reset=True, reset=reset)


@pytest.mark.parametrize("beta", [-0.1, [0.1, -0.1], torch.tensor([-1.0])], ids=str)
def test_several_spikes_need_a_threshold_that_rises(beta: Any) -> None:
    with pytest.raises(ConfigError, match=r"ALIF\(beta=.*, max_spikes=None\) counts how often"):
        ALIF(beta=beta, max_spikes=None)
    assert ALIF(beta=beta).max_spikes == 1


TIMES = [(CUBALIF, "tau tau_syn"), (ALIF, "tau tau_adaptation tau_syn"), (LI, "tau tau_syn")]
SCALES = [(CUBALIF, "current_gain"), (ALIF, "current_gain"), (ALIF, "beta"), (LI, "current_gain"), (LI, "gain")]


@pytest.mark.parametrize("kind, names", TIMES)
def test_time_constants(kind: Callable[..., Neuron], names: str) -> None:
    for name in names.split():
        for value in (0.5, [2.0, 0.9], NAN, [1.0, NAN]):
            with pytest.raises(ConfigError, match=rf"{kind.__name__}\({name}=.*{name} must be at least 1"):  # type: ignore[attr-defined]
                kind(**{name: value})
        for value in ("2", [], {}):
            with pytest.raises(ConfigError, match=rf"\({name}=.*number of steps, or one number per channel"):
                kind(**{name: value})
        with pytest.raises(ConfigError, match=rf"\({name}=inf\).*finite"):
            kind(**{name: INF})
        with pytest.raises(ConfigError, match=rf"\({name}=.*asks for a gradient"):
            kind(**{name: torch.full((2,), 2.0, requires_grad=True)})


@pytest.mark.parametrize("kind, name", SCALES)
def test_scales(kind: Callable[..., Neuron], name: str) -> None:
    for value, message in ((NAN, name), ([1.0, INF], "Give finite numbers"), ([], "one number, or one per channel")):
        with pytest.raises(ConfigError, match=rf"(?s)\({name}=.*{message}"):
            kind(**{name: value})


def test_a_lossless_integrator_has_nothing_to_train() -> None:
    with pytest.raises(ConfigError, match=r"LI\(tau=None, learn_tau=True\): without a leak there is no time constant"):
        LI(tau=None, learn_tau=True)
    with pytest.raises(ConfigError, match="above 1 to be learned"):
        LI(tau=1.0, learn_tau=True)


class Own(Neuron):
    """Has a scan of its own, which uses no option."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return x, state


@pytest.mark.parametrize(
    "given",
    [
        {"strict": True},
        {"max_spikes": None},
        {"lower_bound": -1.0},
        {"learn_gain": True},
        {"potential": "after reset"},
        {"gain": [1.0, 2.0]},
        {"learn_threshold": True},
    ],
    ids=str,
)
def test_a_scan_that_does_not_use_an_option_refuses_it(given: dict[str, Any]) -> None:
    (name,) = given
    usual: dict[str, Any] = {"threshold": 1.0, "reset": "subtract", "detach_reset": True, "surrogate": Sigmoid(4.0)}
    with pytest.raises(ConfigError, match=rf"Own\({name}=.*not known to make use of {name}. Leave it out"):
        Own(**usual, inplace=False, **given)

    class Uses(Own):
        scan_uses = frozenset({name})

    assert repr(Uses(**usual, inplace=False, **given)) != repr(Uses(**usual, inplace=False))


@kinds
def test_recurrent_layers_return_one_tensor(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"Recurrent\(neuron=.*returns its potential .* Use potential=None"):
        Recurrent(KINDS[kind](potential="after reset"), nn.Linear(2, 2))


def test_everything_is_exported() -> None:
    assert {"ALIF", "CUBALIF", "LI"} <= set(dir(sw.neurons)) and sw.CUBALIF is CUBALIF


def test_a_trained_threshold_stays_above_what_it_is_measured_from() -> None:
    for options in ({}, {"max_spikes": None}, {"rest": 0.5}, {"reset": "late"}, {"reset": "zero"}):
        neuron = LIF(learn_threshold=True, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            neuron.threshold.fill_(-0.5)  # type: ignore[union-attr]
        x = torch.full((6, 1, 1), 1.2, requires_grad=True)
        spikes, _ = neuron.scan(x, {}, True)
        assert spikes.isfinite().all() and (spikes >= 0).all()
        spikes.sum().backward()
        assert isinstance(neuron.threshold, torch.Tensor) and neuron.threshold.grad is not None
        assert torch.as_tensor(neuron.effective_threshold).item() == pytest.approx(0.505 if "rest" in options else 0.01)


def test_integrators_neither_lose_their_input_nor_come_back_as_spikes() -> None:
    with pytest.raises(ConfigError, match=r"LI\(tau=None, gain='1/tau'\): without a leak 1/tau is 0"):
        LI(tau=None, gain="1/tau")
    with pytest.raises(ConfigError, match="neuron has to be a spiking neuron"):
        Recurrent(LI(), nn.Linear(2, 2))


def test_constants_of_several_axes_have_to_broadcast() -> None:
    for shape in ((2, 2), (3, 1, 4), (2, 1, 1, 1, 1)):
        with pytest.raises(ShapeError, match=r"has a constant of shape .* which does not broadcast to its current"):
            LIF(threshold=torch.ones(shape)).scan(torch.zeros(2, 1, 4, 1), {}, True)


def test_a_trained_strength_of_adaptation_has_single_spikes() -> None:
    with pytest.raises(ConfigError, match=r"learn_beta=True, max_spikes=None\) counts how often"):
        ALIF(learn_beta=True, max_spikes=None)
