"""State dicts of real models, loaded here: the same spikes as the model they come from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.interop import load_state_dict

pytestmark = pytest.mark.filterwarnings("ignore")  # of these libraries
STEPS, SAMPLES = 20, 8


@pytest.fixture(autouse=True)
def single_precision() -> Any:
    """The neurons of some of these libraries send float32 only."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def blurred(model: nn.Module) -> nn.Module:
    """Change weights and statistics, so that nothing is equal by its initialisation."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("weight") and value.dim() > 1:
                value.mul_(5.0)
            elif name.endswith("bias") and value.dim() == 1:
                value.add_(0.3)
            elif name.endswith(("running_mean", "running_var")):
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


def looped(model: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    return torch.stack([model(step) for step in x])


def compared(theirs: Tensor, module: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        ours = sw.Network(module).eval().run(x)[0]
    assert 0.02 < theirs.mean() < 0.9 and theirs.shape == ours.shape
    assert torch.equal(theirs, ours)


def grid(*shape: int) -> Tensor:
    return torch.rand(STEPS, SAMPLES, *shape) * 2


def test_snntorch() -> None:
    snn: Any = pytest.importorskip("snntorch")
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), snn.Leaky(0.9, init_hidden=True), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 12), snn.Leaky(torch.rand(12) * 0.5 + 0.4, init_hidden=True, threshold=0.6, learn_beta=True,
                                     graded_spikes_factor=2.0, reset_mechanism="zero"),
        nn.Linear(12, 5), snn.Leaky(0.7, init_hidden=True, threshold=0.5, learn_threshold=True),
    )  # fmt: skip
    blurred(model)
    ours = nn.Sequential(
        nn.Conv2d(1, 4, 3), sw.LIF(reset="late", strict=True), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 12), sw.LIF(torch.full((1, 12), 2.0), learn_tau=True, reset="zero", strict=True),
        nn.Linear(12, 5), sw.LIF(reset="late", strict=True, learn_threshold=True),
    )  # fmt: skip
    load_state_dict(ours, model.state_dict(), library="snntorch")
    x = grid(1, 8, 8)
    with torch.no_grad():
        compared(looped(model, x), ours, x)


def test_spikingjelly() -> None:
    neuron: Any = pytest.importorskip("spikingjelly.activation_based.neuron")
    functional: Any = pytest.importorskip("spikingjelly.activation_based.functional")
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), neuron.LIFNode(v_threshold=0.5), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 12), neuron.ParametricLIFNode(init_tau=3.0, decay_input=False),
        nn.Linear(12, 5), neuron.IFNode(v_reset=None),
    )  # fmt: skip
    blurred(model)
    ours = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), sw.LIF(2.0, gain=0.5, reset="zero", threshold=0.5), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(36, 12), sw.LIF(learn_tau=True, reset="zero"), nn.Linear(12, 5), sw.IF(),
    )  # fmt: skip
    loaded = load_state_dict(ours, model.state_dict(), library="spikingjelly")
    assert loaded.neurons == ("2", "8")
    functional.reset_net(model)
    x = grid(1, 8, 8)
    with torch.no_grad():
        compared(looped(model, x), ours, x)


def test_sinabs_of_a_used_model() -> None:
    layers: Any = pytest.importorskip("sinabs.layers")
    single: Any = pytest.importorskip("sinabs.activation").SingleSpike
    model = nn.Sequential(
        nn.Linear(20, 16),
        layers.LIF(tau_mem=10.0, norm_input=False, spike_fn=single),
        nn.Linear(16, 6),
        layers.IAF(spike_threshold=4.0, spike_fn=single),
    )
    blurred(model)
    x = grid(20) / 8 - 0.1
    with torch.no_grad():
        theirs = model(x.transpose(0, 1)).transpose(0, 1)
    ours = nn.Sequential(nn.Linear(20, 16), sw.LIF(), nn.Linear(16, 6), sw.IF())
    loaded = load_state_dict(ours, model.state_dict(), library="sinabs")
    assert sum(not row.ours for row in loaded.rows) == 2
    compared(theirs, ours, x)


def test_norse() -> None:
    norse: Any = pytest.importorskip("norse.torch")
    box: Any = pytest.importorskip("norse.torch.functional.lif_box")
    p = box.LIFBoxParameters(tau_mem_inv=torch.tensor(200.0))
    model = norse.SequentialState(
        nn.Linear(20, 16), norse.LIFBoxCell(p, dt=1e-3), nn.Linear(16, 6), norse.LIFBoxCell(p, dt=1e-3)
    )
    blurred(model)
    x, state, sent = 4 * grid(20), None, list[Tensor]()
    with torch.no_grad():
        for step in x:
            spikes, state = model(step, state)
            sent.append(spikes)
    neurons = [sw.LIF(5.0, gain=0.2, reset="zero", strict=True) for _ in range(2)]
    ours = nn.Sequential(nn.Linear(20, 16), neurons[0], nn.Linear(16, 6), neurons[1])
    loaded = load_state_dict(ours, model.state_dict(), library="norse")
    assert loaded.neurons == ("1", "3") and "nothing of a neuron is stored" in loaded.table()
    compared(torch.stack(sent), ours, x)


SMALL = {
    "Leaky": (
        lambda snn: snn.Leaky(torch.tensor([0.9, 0.5, 0.7, 0.3]), threshold=0.6, init_hidden=True),
        lambda: sw.LIF(reset="late", strict=True),
    ),
    "one threshold per place": (
        lambda snn: snn.Leaky(0.8, threshold=0.2 + torch.rand(4, 4, 4), init_hidden=True),
        lambda: sw.LIF(reset="late", strict=True),
    ),
    "by channel": (
        lambda snn: snn.Leaky(torch.tensor([0.9, 0.5, 0.7, 0.3]).view(4, 1, 1), threshold=0.6, init_hidden=True),
        lambda: sw.LIF(reset="late", strict=True),
    ),
    "trained": (
        lambda snn: snn.Leaky(torch.rand(4) * 0.5 + 0.3, threshold=torch.rand(4) + 0.3, learn_beta=True,
                              learn_threshold=True, init_hidden=True),
        lambda: sw.LIF(torch.full((1, 4), 2.0), threshold=torch.full((1, 4), 1.0), learn_tau=True,
                       learn_threshold=True, reset="late", strict=True),
    ),
    "Lapicque of R and C": (
        lambda snn: snn.Lapicque(R=5.0, C=2.0, time_step=1.5, threshold=0.6, init_hidden=True),
        lambda: sw.LIF(reset="late", strict=True),
    ),
    "Lapicque of beta": (
        lambda snn: snn.Lapicque(beta=0.8, threshold=0.3, init_hidden=True),
        lambda: sw.LIF(reset="late", strict=True),
    ),
}  # fmt: skip
"""Neurons of snnTorch behind a convolution to a map of 4 x 4, and those here into which they are loaded."""


@pytest.mark.parametrize("name", SMALL)
def test_constants_behind_a_convolution_broadcast_as_they_do_there(name: str) -> None:
    snn: Any = pytest.importorskip("snntorch")
    make, here = SMALL[name]
    model = blurred(nn.Sequential(nn.Conv2d(1, 4, 3), make(snn)))
    ours = nn.Sequential(nn.Conv2d(1, 4, 3), here())
    load_state_dict(ours, model.state_dict(), library="snntorch")
    x = grid(1, 6, 6)
    with torch.no_grad():
        theirs = looped(model, x)
        found = sw.Network(ours).run(x)[0]
    assert 0.02 < theirs.mean() < 0.9
    if name.startswith("Lapicque of R"):  # gain and leak are rounded in another order
        assert (theirs != found).float().mean() < 0.002
    else:
        assert torch.equal(theirs, found)


def test_a_layer_of_snntorch_with_its_own_spikes() -> None:
    snn: Any = pytest.importorskip("snntorch")
    model = blurred(nn.Sequential(nn.Linear(20, 8), snn.RLeaky(0.8, init_hidden=True, linear_features=8)))
    neuron = sw.LIF(reset="late", strict=True)
    ours = nn.Sequential(nn.Linear(20, 8), sw.Recurrent(neuron, nn.Linear(8, 8), first="bias"))
    load_state_dict(ours, model.state_dict(), library="snntorch")
    x = grid(20)
    with torch.no_grad():
        assert (looped(model, x) != sw.Network(ours).run(x)[0]).float().mean() < 0.01
    other = nn.Sequential(nn.Linear(20, 8), sw.Recurrent(sw.LIF(reset="late"), nn.Linear(8, 8)))
    with pytest.raises(sw.errors.NetworkError, match=r"get it at the first step, but '1' here .*Use first='bias'"):
        load_state_dict(other, model.state_dict(), library="snntorch")


@pytest.mark.parametrize("kind", ["IAF", "LIF"])
def test_a_lower_bound_of_sinabs(kind: str) -> None:
    layers: Any = pytest.importorskip("sinabs.layers")
    single: Any = pytest.importorskip("sinabs.activation").SingleSpike
    options = {
        "min_v_mem": -0.05,
        "spike_fn": single,
        **({"tau_mem": 8.0, "norm_input": False} if kind == "LIF" else {}),
    }
    model = blurred(nn.Sequential(nn.Linear(20, 16), getattr(layers, kind)(**options)))
    neuron: Any = sw.LIF() if kind == "LIF" else sw.IF()
    ours = nn.Sequential(nn.Linear(20, 16), neuron)
    loaded = load_state_dict(ours, model.state_dict(), library="sinabs")
    assert neuron.lower_bound == pytest.approx(-0.05) and "min_v_mem" not in loaded.unstored
    x = grid(20) / 8 - 0.1
    with torch.no_grad():
        theirs = model(x.transpose(0, 1)).transpose(0, 1)
        compared(theirs, ours, x)
        neuron.lower_bound = None
        assert not torch.equal(theirs, sw.Network(ours).run(x)[0])  # the bound is reached
