"""Whole models of sinabs and Norse with the neurons that these libraries make by default, and recurrent ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import convert, reading
from spikewright.layers import Recurrent
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.rules import BPTT, OTTT, SLTT

STEPS, BATCH = 8, 3


def images() -> Tensor:
    return torch.rand(STEPS, BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def louder(model: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.mul_(factor)
    return model


def analog() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def from_model() -> nn.Module:
    pytest.importorskip("sinabs")
    from sinabs.from_torch import from_model

    model: nn.Module = from_model(louder(analog(), 6.0), batch_size=BATCH)
    return model


def from_model_spiking() -> nn.Module:
    pytest.importorskip("sinabs")
    from sinabs.from_torch import from_model

    model = from_model(louder(analog(), 6.0), batch_size=BATCH, add_spiking_output=True, input_shape=(1, 8, 8))
    return model.spiking_model


def leaky() -> nn.Module:
    """LIF as it is made, with trained time constants, and a readout."""
    pytest.importorskip("sinabs")
    import sinabs.layers as layers

    return nn.Sequential(
        louder(nn.Linear(64, 12), 8.0), layers.LIF(tau_mem=4.0), louder(nn.Linear(12, 6), 25.0),
        layers.LIF(tau_mem=2.0, train_alphas=True), nn.Linear(6, 3),
        layers.ExpLeak(tau_mem=5.0, norm_input=True),
    )  # fmt: skip


def current_based() -> nn.Module:
    pytest.importorskip("sinabs")
    import sinabs.layers as layers
    from sinabs.activation import Gaussian

    return nn.Sequential(
        louder(nn.Linear(64, 12), 8.0),
        layers.LIF(tau_mem=4.0, tau_syn=2.0, min_v_mem=-1.0).requires_grad_(False), louder(nn.Linear(12, 6), 25.0),
        layers.ALIF(
            tau_mem=torch.tensor(4.0), tau_adapt=torch.tensor(6.0), surrogate_grad_fn=Gaussian()
        ).requires_grad_(False), nn.Linear(6, 3),
    )  # fmt: skip


def norse_default() -> nn.Module:
    """The convolutional network of Norse, with LIFCell as it is made and a leaky integrator as readout."""
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(
        louder(nn.Conv2d(1, 4, 3), 12.0), library.LIFCell(), nn.AvgPool2d(2), nn.Flatten(),
        louder(nn.Linear(36, 6), 12.0), library.LIFCell(), nn.Linear(6, 3), library.LICell(),
    )  # fmt: skip


def norse_over_time() -> nn.Module:
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(louder(nn.Linear(64, 6), 20.0), library.LIF(), nn.Linear(6, 3), library.LI())


def recurrent_sinabs() -> nn.Module:
    pytest.importorskip("sinabs")
    import sinabs.layers as layers

    return nn.Sequential(
        louder(nn.Linear(64, 6), 6.0), layers.LIFRecurrent(tau_mem=3.0, rec_connect=nn.Linear(6, 6)),
        nn.Linear(6, 5), layers.IAFRecurrent(rec_connect=nn.Sequential(nn.Linear(5, 5, bias=False))), nn.Linear(5, 3),
    )  # fmt: skip


def recurrent_norse() -> nn.Module:
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(louder(nn.Linear(64, 9), 6.0), library.LIFRecurrentCell(9, 6), nn.Linear(6, 3))


def recurrent_norse_over_time() -> nn.Module:
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(
        louder(nn.Linear(64, 9), 6.0), library.LIFRecurrent(9, 6, autapses=True), nn.Linear(6, 3)
    )


def adaptive_norse() -> nn.Module:
    """LSNN cells with a threshold that moves a lot, and one per neuron."""
    pytest.importorskip("norse")
    import norse.torch as library
    from norse.torch.functional.lsnn import LSNNParameters

    strong = LSNNParameters(
        tau_adapt_inv=torch.tensor(60.0), beta=torch.tensor(0.7), method="tanh", alpha=2.0,
        v_th=torch.linspace(0.5, 1.0, 6), v_leak=torch.tensor(0.2), v_reset=torch.tensor(0.2),
    )  # fmt: skip
    return library.SequentialState(
        louder(nn.Conv2d(1, 4, 3), 30.0), library.LSNNCell(), nn.AvgPool2d(2), nn.Flatten(),
        louder(nn.Linear(36, 6), 40.0), library.LSNNCell(strong, dt=0.003), nn.Linear(6, 3),
    )  # fmt: skip


def adaptive_norse_over_time() -> nn.Module:
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(louder(nn.Linear(64, 6), 30.0), library.LSNN(), nn.Linear(6, 3))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "sinabs from_model": from_model,
    "sinabs from_model, spiking": from_model_spiking,
    "sinabs LIF": leaky,
    "sinabs currents": current_based,
    "sinabs recurrent": recurrent_sinabs,
    "Norse LIFCell": norse_default,
    "Norse LIF": norse_over_time,
    "Norse recurrent cell": recurrent_norse,
    "Norse recurrent": recurrent_norse_over_time,
    "Norse LSNN, LIFCell": adaptive_norse,
    "Norse LSNN": adaptive_norse_over_time,
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    x = images()
    return MODELS[name](), x if "from_model" in name or name.endswith("LIFCell") else x.flatten(2)


def theirs(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """What the model returns, `[time, batch, ...]`, from rest."""
    for module in model.modules():
        if hasattr(module, "init_state_with_shape"):
            for key in list(module._buffers):
                module._buffers[key] = torch.zeros(0)
    with torch.no_grad():
        if "from_model" in name:
            return model(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (BATCH, STEPS)).transpose(0, 1)
        if "sinabs" in name:
            return model(x.transpose(0, 1)).transpose(0, 1)
        if not name.endswith(("LIFCell", "cell")):
            return model(x)[0]
        state, sent = None, []
        for step in x:
            y, state = model(step, state)
            sent.append(y)
        return torch.stack(sent)


@every_model
def test_a_model_is_converted_and_proven(name: str) -> None:
    model, x = made(name)
    found = convert(model, x)
    assert found.proven, found.table()
    assert all(not row.differing and not row.free for row in found.rows), found.table()
    with torch.no_grad():
        ours, _ = Network(found.module.eval()).run(x)
    torch.testing.assert_close(ours, theirs(model, name, x), rtol=1e-5, atol=1e-5)


@every_model
@pytest.mark.parametrize("rule", [OTTT, SLTT, BPTT])
def test_training_here_trains_the_model(name: str, rule: Any) -> None:
    model, x = made(name)
    found = convert(model, x)
    net = Network(found.module)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    first = theirs(model, name, x)
    weights = {key: p.detach().clone() for key, p in model.named_parameters() if "analog" not in key}
    net.train()
    for _ in range(4):
        for _ in rule().updates(net, x, torch.tensor([0, 1, 2]), PerStep(nn.CrossEntropyLoss())):
            optimizer.step()
            optimizer.zero_grad()
    found.write_back()
    with torch.no_grad():
        ours, here = net.eval().run(x)[0], theirs(model.eval(), name, x)
    assert not torch.equal(here, first)
    changed = {key for key, p in model.named_parameters() if key in weights and not torch.equal(p, weights[key])}
    expected = {key for key in weights if key.endswith("weight") or "weights" in key}
    if "LSNN" in name and rule is not BPTT:  # errors of one step do not pass a delay
        expected = {max(expected)}
        assert "rules that learn from each step by itself send no error before it" in found.table()
        assert not changed - {max(expected), max(expected).replace("weight", "bias")}
    assert expected <= changed
    if not torch.allclose(ours, here, rtol=1e-5, atol=1e-5):  # then for rounding, and for nothing else
        assert sum(row.differing + row.free for row in convert(model, x).rows) > 0


@pytest.mark.parametrize("rule", [OTTT, SLTT, BPTT])
def test_a_neuron_of_norse_stays_unconnected_to_itself(rule: Any) -> None:
    model, x = made("Norse recurrent cell")
    cell: Any = next(m for m in model.modules() if type(m).__name__ == "LIFRecurrentCell")
    net = Network(convert(model, x).module)
    for _ in rule().updates(net, x, torch.tensor([0, 1, 2]), PerStep(nn.CrossEntropyLoss())):
        gradient = cell.recurrent_weights.grad
        assert gradient.any() and not gradient.diagonal().any()


def test_trained_time_constants_are_written_back() -> None:
    model, x = made("sinabs LIF")
    found = convert(model, x)
    with torch.no_grad():
        for key, parameter in found.module.named_parameters():
            if key.endswith("leak_logit"):
                parameter.add_(0.5)
    written = found.write_back()
    assert set(written) == {"1.tau_mem", "3.alpha_mem", "5.tau_mem"}
    assert written["1.tau_mem"] == pytest.approx(model[1].tau_mem.item()) and model[1].tau_mem > 5  # type: ignore[index]
    assert all(not row.differing for row in convert(model, x).rows)


def test_every_neuron_may_have_its_own_time_constant() -> None:
    pytest.importorskip("sinabs")
    import sinabs.layers as layers

    torch.manual_seed(0)
    neuron = layers.LIF(tau_mem=torch.linspace(2, 6, 6))
    model, x = nn.Sequential(louder(nn.Linear(64, 6), 12.0), neuron, nn.Linear(6, 3)), images().flatten(2)
    found = convert(model, x)
    assert found.proven and "tau=tensor" in found.rows[0].ours
    net = Network(found.module)
    for _ in SLTT().updates(net, x, torch.tensor([0, 1, 2]), PerStep(nn.CrossEntropyLoss())):
        pass
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
    before = neuron.tau_mem.detach().clone()
    written: Any = found.write_back()["1.tau_mem"]
    assert len(written) == 6 and (neuron.tau_mem != before).all()
    assert all(not row.differing for row in convert(model, x).rows)


def transposed(mapping: Any) -> Any:
    whole = mapping.layer if isinstance(mapping.layer, nn.Sequential) else nn.Sequential(mapping.layer)
    back = nn.Linear(6, 6)
    back.weight = nn.Parameter(whole[-1].transform.weight.detach().T.contiguous())
    back.bias = whole[-1].transform.bias
    return replace(mapping, layer=nn.Sequential(*whole[:-1], Recurrent(mapping.neuron, back)))


def with_bias(mapping: Any) -> Any:
    mapping.layer.first = "bias"
    return mapping


def attached(mapping: Any) -> Any:
    mapping.neuron.detach_reset = False
    return mapping


LOOP_FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "recurrent weight of sinabs transposed": ("sinabs recurrent one", transposed),
    "recurrent weight of Norse transposed": ("Norse recurrent cell", transposed),
    "bias at the first step": ("sinabs recurrent one", with_bias),
    "reset of the recurrent cell kept": ("Norse recurrent cell", attached),
}


@pytest.mark.parametrize("name", LOOP_FAULTS)
def test_a_wrong_recurrence_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    which, change = LOOP_FAULTS[name]
    model, x = made(which.removesuffix(" one"))
    if which.endswith(" one"):
        model = model[:3]  # type: ignore[index]
    convert(model, x)
    read = reading.Found.read

    def faulty(self: Any, module: Any, dtype: Any) -> Any:
        found = read(self, module, dtype)
        return change(found) if found.layer is not None else found

    monkeypatch.setattr(reading.Found, "read", faulty)
    with pytest.raises(ConversionError):
        convert(model, x)
