"""Constants and states keep their value when a module, or the current, changes its precision."""

import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.kernels.lif import lif_naive
from spikewright.layers import Feedback, SynapticDelay
from spikewright.network import Network
from spikewright.neurons import IF, LIF, AlphaLIF, Neuron
from spikewright.neurons.dsr import DSRIF, DSRLIF
from spikewright.rules import OTTT, SLTT, Rule
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.temporal import State
from tests.core.support import CE

TAUS = [2.3, 3.7, 1.0, 70.0]
LEAKS = [1 - 1 / tau for tau in TAUS]
TYPES = F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64


def exact(neuron: Neuron) -> bool:
    assert isinstance(neuron.leak, Tensor)
    return neuron.leak.flatten().tolist() == LEAKS


def saved(neuron: nn.Module) -> dict[str, Tensor]:
    file = io.BytesIO()
    torch.save(neuron.state_dict(), file)
    file.seek(0)
    return torch.load(file)


CASTS: dict[str, Callable[[LIF], LIF]] = {
    "half": lambda n: n.half(),
    "bfloat16 and back": lambda n: n.bfloat16().float(),
    "float, half, double": lambda n: n.float().half().double(),
    "to": lambda n: n.to("cpu", torch.float16),
    "type": lambda n: n.type(torch.bfloat16),
    "to_empty": lambda n: n.to_empty(device="cpu"),
    "inside a network": lambda n: Network(nn.Sequential(nn.Linear(2, 4), n)).half().float().module[1],  # type: ignore
    "a copy": lambda n: deepcopy(n.half()).double(),
    "apply": lambda n: n._apply(lambda t: t.half()),
}


@pytest.mark.parametrize("name", CASTS)
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_leaks_keep_their_value(name: str, default: torch.dtype) -> None:
    torch.set_default_dtype(default)
    assert exact(CASTS[name](LIF(TAUS)))
    shaped = CASTS[name](LIF(torch.tensor(TAUS, dtype=torch.float64).view(4, 1, 1)))
    assert exact(shaped) and shaped.leak.shape == (4, 1, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("assign", [False, True])
def test_leaks_come_back_from_a_checkpoint(dtype: torch.dtype, assign: bool) -> None:
    """Also from one that held them in another precision: what differs by its rounding only is the present value."""
    neuron = LIF(TAUS).to(dtype)
    neuron.load_state_dict(saved(LIF(TAUS).to(dtype)), assign=assign)
    assert exact(neuron)
    older = {"leaks": torch.tensor(LEAKS, dtype=dtype)}
    neuron.load_state_dict(older, assign=assign)
    assert exact(neuron)
    other = {"leaks": torch.tensor([0.5, 0.25, 0.125, 0.0], dtype=dtype)}
    neuron.load_state_dict(other, assign=assign)
    neuron.half()
    assert neuron.leak.tolist() == [0.5, 0.25, 0.125, 0.0]  # type: ignore[union-attr]
    assert older["leaks"].dtype == dtype and list(other) == ["leaks"]


def test_one_leak_in_a_tensor_comes_back_from_an_older_checkpoint() -> None:
    net = nn.Sequential(LIF([2.5]), LIF(torch.full((1, 1), 2.5)))
    net.load_state_dict({"0.leaks": torch.tensor([0.6]), "1.leaks": torch.tensor([[0.75]])})
    assert [neuron.leak for neuron in net] == [0.6, 0.75]
    assert not net.state_dict()
    with pytest.raises(RuntimeError, match="leaks"):
        LIF().load_state_dict({"leaks": torch.tensor([0.6, 0.5])})
    with pytest.raises(RuntimeError, match="leaks"):
        LIF(TAUS).load_state_dict({})


@pytest.mark.parametrize("cast", [torch.float16, torch.bfloat16])
def test_a_scan_of_low_precision_uses_leaks_of_32_bits(cast: torch.dtype) -> None:
    net, x = Network(nn.Sequential(LIF(TAUS, threshold=100.0)).to(cast)), torch.ones(40, 2, 4).to(cast)
    membrane = net.run(x)[1]["0"]["membrane"]
    expected = lif_naive(
        x.float(),
        None,
        leak=torch.tensor(LEAKS, dtype=torch.float32),
        threshold=100.0,
        reset="subtract",
        detach_reset=True,
        surrogate=Sigmoid(),
        through_time=True,
    )[1]
    assert membrane.dtype == torch.float32
    torch.testing.assert_close(membrane, expected, rtol=1e-6, atol=0)
    rounded = torch.tensor(LEAKS).to(cast).float()
    assert ((rounded - torch.tensor(LEAKS)).abs().max()) > 1e-5  # which is what it would be off by


def test_a_scan_in_double_precision_uses_leaks_of_64_bits() -> None:
    neuron = LIF(TAUS, threshold=100.0).float().double()
    x = torch.ones(3, 1, 4, dtype=torch.float64)
    membrane = Network(nn.Sequential(neuron)).run(x)[1]["0"]["membrane"]
    assert membrane.flatten().tolist() == pytest.approx([1 + a + a * a for a in LEAKS], rel=1e-15)


def test_a_learned_leak_is_cast_as_parameters_are_and_used_in_32_bits() -> None:
    neuron = LIF(TAUS[:2], learn_tau=True).half()
    assert neuron.leak_logit.dtype == torch.float16
    assert neuron.leak.dtype == torch.float32  # type: ignore[union-attr]
    torch.testing.assert_close(neuron.leak, torch.sigmoid(neuron.leak_logit.float()), rtol=0, atol=0)


def test_delays_are_numbers_of_steps_in_any_precision() -> None:
    for dtype in TYPES:
        layer = SynapticDelay(3, max_delay=600, init=[100.4, 300.6, 511.4]).to(dtype)
        delay = layer.delay
        assert delay.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(delay, 600 * torch.sigmoid(layer.delay_logit.to(delay)))


class Mine(Surrogate):
    """Has no kernel, so neurons with it are run step by step."""

    def slope(self, x: Tensor) -> Tensor:
        return (1 - x.abs()).clamp_min(0)

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x)


def between(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 3))


def loop() -> nn.Module:
    source = LIF(3.0)
    return between(Feedback(nn.Linear(4, 4), source), LIF(), nn.Linear(4, 4), source)


def delay(kind: str, rounding: bool = True) -> nn.Module:
    tau = None if kind == "finite_difference" else 3.0
    delays = SynapticDelay(4, init=2.3, delay_grad=kind, tau=tau, rounding=rounding)  # type: ignore[arg-type]
    return between(LIF(), delays, nn.Linear(4, 4), LIF())


CARRYING: dict[str, Callable[[], nn.Module]] = {
    "lif": lambda: between(LIF(2.3)),
    "per channel": lambda: between(LIF(TAUS)),
    "step by step": lambda: between(LIF(TAUS, surrogate=Mine())),
    "learned": lambda: between(LIF(2.3, learn_tau=True)),
    "noise": lambda: between(LIF(noise=0.1)),
    "if": lambda: between(IF(reset="zero")),
    "alpha": lambda: between(AlphaLIF()),
    "dsrif": lambda: between(DSRIF(1.0)),
    "dsrlif": lambda: between(DSRLIF()),
    "delay": lambda: delay("finite_difference"),
    "exact delay": lambda: delay("exact"),
    "reference delay": lambda: delay("reference"),
    "shared delay": lambda: delay("exact", rounding=False),
    "feedback": loop,
    "dropout": lambda: between(LIF(), nn.Dropout()),
}


def simple(module: nn.Module) -> nn.Module:
    """Weights that have few digits, so that currents are the same in every precision."""
    source = torch.Generator().manual_seed(0)
    for p in module.parameters():
        if p.dim() == 2:
            p.data = torch.randint(-4, 8, p.shape, generator=source) / 8
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.bias.data = torch.randint(0, 4, layer.bias.shape, generator=source) / 8
    return module


def sequence() -> Tensor:
    return torch.randint(0, 3, (9, 2, 4), generator=torch.Generator().manual_seed(1)) / 2


@pytest.mark.parametrize("name", CARRYING)
@pytest.mark.parametrize("first, second", [(F32, F16), (F16, F32), (BF16, F16), (F32, F64), (F64, F32), (F64, BF16)])
def test_a_state_goes_on_in_another_precision(name: str, first: torch.dtype, second: torch.dtype) -> None:
    module, x = simple(CARRYING[name]()), sequence()
    net = Network(module)
    _, state = net.run(x[:4].to(first_type(module, first)))
    before = {site: {key: v.detach().clone() for key, v in values.items()} for site, values in state.items()}
    output, after = net.run(x[4:].to(first_type(module, second)), state)
    assert output.dtype == second
    carried = [v.dtype for values in after.values() for k, v in values.items() if k in ("membrane", "current", "first")]
    assert set(carried) <= {torch.float64 if second == torch.float64 else torch.float32}
    for site, values in state.items():
        assert all(torch.equal(v, before[site][key]) for key, v in values.items())


def first_type(module: nn.Module, dtype: torch.dtype) -> torch.dtype:
    module.to(dtype)
    return dtype


@pytest.mark.parametrize("name", ["lif", "per channel", "step by step", "if", "dsrif", "delay", "feedback", "alpha"])
@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("how", ["cast", "autocast"])
def test_a_membrane_keeps_its_digits_through_steps_of_low_precision(name: str, low: torch.dtype, how: str) -> None:
    """Currents that low precision holds exactly lead to the states of a run that was in 32 bits all the time."""
    if how == "autocast" and low == torch.float16:
        pytest.skip("one type is enough")
    module, x = simple(CARRYING[name]()).float(), sequence().float()
    expected, wide = Network(module).run(x)
    net, state, outputs = Network(module), None, []
    for steps, dtype in zip(x.split(3), (torch.float32, low, torch.float32)):
        if how == "cast":
            module.to(dtype)
            output, state = net.run(steps.to(dtype), state)
        else:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                output, state = net.run(steps, state)
        outputs.append(output.float())
    torch.testing.assert_close(torch.cat(outputs), expected, rtol=1e-2, atol=1e-2)
    assert state is not None
    for site, values in wide.items():
        for key, value in values.items():
            assert torch.equal(state[site][key], value), (site, key)
    assert expected.any()


RULES: dict[str, Callable[[], Rule]] = {"OTTT": OTTT, "SLTT": SLTT}


@pytest.mark.parametrize("name", ["lif", "delay", "feedback", "dropout", "dsrif"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first", [True, False])
def test_a_rule_goes_on_when_autocast_is_switched(name: str, rule: str, first: bool) -> None:
    net, x, y = Network(simple(CARRYING[name]()).float()), sequence().float(), torch.tensor([0, 2])
    state: State | None = None
    for steps, low in ((x[:4], first), (x[4:], not first)):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            (update,) = RULES[rule]().updates(net, steps, y, CE, state=state)
        state = update.state
    grads: list[Any] = [p.grad for p in net.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)
