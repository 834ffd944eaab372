"""What neurons and surrogates are given: numbers, and a clear refusal of anything else."""

import inspect
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikewright.errors import ConfigError
from spikewright.neurons import IF, LIF, AlphaLIF, Neuron
from spikewright.neurons.dsr import DSRIF, DSRLIF
from spikewright.surrogate import BUILT_IN, Exponential, Rectangle, Sigmoid

NUMBERS: dict[Callable[..., Neuron], list[str]] = {
    LIF: ["threshold", "rest", "gain", "amplitude", "noise"],
    IF: ["threshold", "rest", "gain", "amplitude", "noise"],
    AlphaLIF: ["tau", "threshold"],
    DSRIF: ["threshold", "firing_fraction", "floor", "threshold_grad"],
    DSRLIF: ["tau", "dt", "threshold", "firing_fraction", "floor", "threshold_grad"],
}
PER_CHANNEL = {(neuron, name) for neuron in (LIF, IF) for name in ("threshold", "rest", "gain")}
"""Constants that may be one number per channel, too."""
EVERY = [(neuron, name) for neuron, names in NUMBERS.items() for name in names]
NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "text": ("1.0", "was given a value of type str"),
    "a boolean": (True, "was given a value of type bool"),
    "a list": ([1.0, 2.0], "was given a value of type list"),
    "a complex number": (1 + 2j, "was given a value of type complex"),
    "an array": (np.ones(3), "was given a value of type ndarray"),
    "a decimal": (Decimal(1), "was given a value of type Decimal"),
    "a module": (nn.Linear(1, 1), "was given a value of type Linear"),
    "a tensor": (torch.ones(3), r"<Tensor \[3\]>\) was given a tensor of shape \[3\]"),
    "a tensor of no axes": (torch.ones(()), r"was given a tensor of shape \[\].* or value.item\(\)"),
    "a parameter": (nn.Parameter(torch.ones(())), r"<Parameter \[\]>\) was given a parameter of shape \[\]"),
    "a parameter per channel": (nn.Parameter(torch.ones(4)), r"was given a parameter of shape \[4\]"),
}


@pytest.mark.parametrize("neuron, name", EVERY)
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused(neuron: Callable[..., Neuron], name: str, kind: str) -> None:
    value, message = NO_NUMBERS[kind]
    if (neuron, name) in PER_CHANNEL and kind in ("a list", "a tensor", "a tensor of no axes"):
        several = torch.as_tensor(value, dtype=torch.float64) / 4
        made = neuron(**{name: several})
        assert torch.equal(torch.as_tensor(getattr(made, name), dtype=torch.float64), several)
        return
    if (neuron, name) in PER_CHANNEL and kind.startswith("a parameter"):
        message = "was given a tensor that asks for a gradient"
        with pytest.raises(ConfigError, match=rf"{name}=<Parameter .*{message}, but {name} is a constant"):
            neuron(**{name: value})
        return
    if (neuron, name, kind) == (LIF, "gain", "text"):
        with pytest.raises(ConfigError, match=r"LIF\(gain='1.0'\) is unknown. Known: 1/tau"):
            LIF(gain="1.0")
        return
    shown = rf"{neuron.__name__}\({name}="  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=rf"(?s){shown}.*{message}.*, but {name} is .* Give a float|{shown}.*a float"):
        neuron(**{name: value})
    with pytest.raises(ConfigError, match=message):
        neuron(**{name: value})


@pytest.mark.parametrize("neuron, name", EVERY)
def test_none_is_no_number(neuron: Callable[..., Neuron], name: str) -> None:
    if (neuron, name) == (DSRLIF, "threshold_grad"):
        assert DSRLIF(threshold_grad=None, dt=0.5).threshold_grad == 0.25
        return
    with pytest.raises(ConfigError, match=rf"\({name}=None\) was given None, .*None does not stand for a default"):
        neuron(**{name: None})


@pytest.mark.parametrize("neuron, name", EVERY)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(neuron: Callable[..., Neuron], name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name}={value}"):
        neuron(**{name: value})


@pytest.mark.parametrize("neuron, name", EVERY)
@pytest.mark.parametrize("make", [float, np.float64, np.float32, Fraction])
def test_any_real_number_will_do(neuron: Callable[..., Neuron], name: str, make: Callable[[float], Any]) -> None:
    value = 0.5 if name != "floor" else 0.25
    assert repr(neuron(**{name: make(value)})) == repr(neuron(**{name: value}))


def test_trained_constants_are_named_in_messages() -> None:
    for neuron in (LIF, IF):
        for name in ("threshold", "gain"):
            with pytest.raises(ConfigError, match=rf"no gradient would reach it.* learn_{name}=True"):
                neuron(**{name: nn.Parameter(torch.ones(()))})  # type: ignore[arg-type]
            made = neuron(**{name: 0.7, f"learn_{name}": True})  # type: ignore[arg-type]
            assert dict(made.named_parameters()).keys() == {name}
    for kind in (DSRIF, DSRLIF):
        with pytest.raises(ConfigError, match="For a trained threshold, use learn_threshold=True"):
            kind(threshold=nn.Parameter(torch.ones(())))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="train the weights or a normalisation"):
        LIF(amplitude=nn.Parameter(torch.ones(3)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tau",
    [
        None,
        "2.0",
        True,
        [2.0, "3"],
        [True, 2.0],
        [],
        torch.zeros(0),
        1 + 2j,
        [None],
        [[1.0], [2.0, 3.0]],
        np.array(["2"]),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_time_constants_are_numbers(tau: Any, learned: bool) -> None:
    with pytest.raises(ConfigError, match=r"LIF\(tau=.*: the time constant is a number of steps, or one .* per chan"):
        LIF(tau=tau, learn_tau=learned)


def test_time_constants_are_finite_and_not_trained_by_themselves() -> None:
    for tau in (math.inf, [2.0, math.inf], torch.tensor([math.inf])):
        with pytest.raises(ConfigError, match=r"a finite number of steps. Neurons that retain everything are IF\(\)"):
            LIF(tau=tau)
    for tau in (nn.Parameter(torch.tensor(2.0)), torch.full((3,), 2.0, requires_grad=True)):
        with pytest.raises(ConfigError, match=r"LIF\(tau=<(Parameter|Tensor) .*asks for a gradient.*learn_tau=True"):
            LIF(tau=tau)
    for tau in (torch.tensor([True, True]), torch.ones(2, dtype=torch.complex64)):
        with pytest.raises(ConfigError, match="the time constant is a number of steps"):
            LIF(tau=tau)


@pytest.mark.parametrize("tau", [3, 3.0, np.float32(3), torch.tensor(3), [3], (3.0,), np.array([[3]]), [[3.0]]])
def test_one_time_constant_in_any_form_is_a_number(tau: Any) -> None:
    neuron = LIF(tau=tau)
    assert neuron.leak == 1 - 1 / 3 and isinstance(neuron.leak, float)
    assert not list(neuron.buffers())


def test_a_tensor_of_time_constants_is_copied() -> None:
    tau = torch.tensor([2.0, 4.0], dtype=torch.float64)
    neuron = LIF(tau=tau, learn_tau=True), LIF(tau=tau)
    tau.fill_(100.0)
    assert all(torch.as_tensor(n.leak).tolist() == pytest.approx([0.5, 0.75]) for n in neuron)


@pytest.mark.parametrize("surrogate", BUILT_IN)
@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.nan, math.inf, None, "4", True, torch.tensor(4.0), [4.0]])
def test_surrogates_have_a_positive_number(surrogate: Callable[..., Any], value: Any) -> None:
    for name in inspect.signature(surrogate).parameters:
        with pytest.raises(ConfigError, match=rf"{surrogate.__name__}\({name}=.*(Give a|give a) .*(number|float)"):
            surrogate(**{name: value})
        found = getattr(surrogate(**{name: np.float32(0.5)}), name)
        assert type(found) is float and found == 0.5


@pytest.mark.parametrize("surrogate", BUILT_IN)
@pytest.mark.parametrize("steepness, factor", [(1e37, 1e30), (1e30, 1e37), (1e20, 1e20)])
def test_surrogates_have_a_peak_in_single_precision(
    surrogate: Callable[..., Any], steepness: float, factor: float
) -> None:
    number = 1 / steepness if "width" in inspect.signature(surrogate).parameters else steepness
    with pytest.raises(
        ConfigError, match=rf"{surrogate.__name__}\(.* its peak is .*Give numbers for a peak up to 3e\+38"
    ):
        surrogate(number, factor)
    surrogate(number, 1 / steepness)


@pytest.mark.parametrize("surrogate", [Exponential, Rectangle])
def test_surrogates_have_a_peak_in_single_precision_before_the_factor(surrogate: Callable[..., Any]) -> None:
    """A kernel multiplies by the factor last."""
    with pytest.raises(ConfigError, match=r"its peak without the factor is .*e\+39, too large for single precision"):
        surrogate(1e-39 / 2, 1e-10)


@pytest.mark.parametrize(
    "value", [None, Sigmoid, 4.0, "sigmoid", torch.sigmoid], ids=["none", "class", "number", "name", "function"]
)
@pytest.mark.parametrize("neuron", NUMBERS)
def test_a_slope_comes_from_a_surrogate(neuron: Callable[..., Neuron], value: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(surrogate=.* but the slope of a spike .* Give an instance, such as"):
        neuron(surrogate=value)
