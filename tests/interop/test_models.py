"""Whole models: every layout, loop and container, with parameters shared, proven and run in a network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError, NetworkError
from spikewright.interop import Conversion, convert
from spikewright.layers import JointBatchNorm2d, StepDropout
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF, Neuron
from spikewright.rules import OTTT, SLTT

STEPS, BATCH = 6, 3


def images() -> Tensor:
    return 3 * torch.rand(STEPS, BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def loud(net: nn.Module, factor: float = 1.5) -> nn.Module:
    """Weights large enough that every layer fires."""
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.Linear | nn.Conv2d):
                m.weight.abs_().mul_(factor)
    return net


def jelly_layers(mode: str, norm: bool = True) -> nn.Module:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(
        layer.Conv2d(1, 4, 3), layer.BatchNorm2d(4) if norm else nn.Identity(),
        neuron.LIFNode(2.0, v_reset=None), layer.MaxPool2d(2),
        layer.Conv2d(4, 4, 2), neuron.IFNode(v_reset=None), layer.Dropout(0.25), layer.Flatten(),
        layer.Linear(16, 5), neuron.ParametricLIFNode(2.0, decay_input=False),
    )  # fmt: skip
    functional.set_step_mode(net, mode)
    if norm:
        nn.init.ones_(net[1].bias)
    return net


class JellyForward(nn.Module):
    """Containers and functions of SpikingJelly over [time, batch]."""

    def __init__(self, mean: bool = False) -> None:
        super().__init__()
        pytest.importorskip("spikingjelly")
        from spikingjelly.activation_based import layer, neuron

        self.front = layer.SeqToANNContainer(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.lif = neuron.LIFNode(2.0, decay_input=False, step_mode="m")
        self.middle = layer.MultiStepContainer(nn.Conv2d(4, 4, 3), neuron.IFNode())
        self.flat = nn.Flatten(2)
        self.fc = layer.Linear(64, 5, step_mode="m")
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(self.flat(self.middle(self.lif(self.front(x)))))
        return y.mean(0) if self.mean else y


class Snn(nn.Module):
    """The form of the tutorials of snnTorch: one step, a loop over x, or a loop of so many steps."""

    def __init__(self, form: str = "step", **options: Any) -> None:
        super().__init__()
        snn = pytest.importorskip("snntorch")
        self.conv, self.lif1 = nn.Conv2d(1, 4, 3), snn.Leaky(beta=0.8, **options)
        self.pool = nn.AvgPool2d(2)
        self.fc, self.lif2 = nn.Linear(36, 5), snn.Leaky(beta=0.6, reset_mechanism="zero", **options)
        self.form, self.num_steps = form, STEPS

    def step(self, x: Tensor, mem1: Any, mem2: Any) -> tuple[Tensor, Any, Any]:
        spk1, mem1 = self.lif1(self.conv(x), mem1)
        spk2, mem2 = self.lif2(self.fc(self.pool(spk1).flatten(1)), mem2)
        return spk2, mem1, mem2

    def forward(self, x: Tensor) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, potentials = [], []
        steps = {"step": 1, "static": self.num_steps, "time": x.shape[0], "batch": x.shape[1], "both": x.shape[0]}
        for t in range(steps[self.form]):
            step = {"time": lambda t=t: x[t], "both": lambda t=t: x[t], "batch": lambda t=t: x[:, t]}
            spk, mem1, mem2 = self.step(step.get(self.form, lambda: x)(), mem1, mem2)
            spikes.append(spk)
            potentials.append(mem2)
        if self.form == "step":
            return spikes[0]
        if self.form == "both":
            return torch.stack(spikes), torch.stack(potentials)
        return torch.stack(spikes, 1 if self.form == "batch" else 0)


def hidden() -> nn.Module:
    snn = pytest.importorskip("snntorch")
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), snn.Leaky(beta=0.8, init_hidden=True), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5),
        snn.Leaky(beta=0.9, init_hidden=True),
    )  # fmt: skip


def nabs_layer(name: str, **options: Any) -> Any:
    pytest.importorskip("sinabs")
    import sinabs.layers as layers
    from sinabs.activation import SingleSpike

    given = {"tau_mem": 3.0, "norm_input": False} if name.startswith("LIF") else {}
    return getattr(layers, name)(spike_fn=SingleSpike, **given, **options).requires_grad_(False)


def nabs_folded() -> nn.Module:
    neuron = nabs_layer("LIFSqueeze", batch_size=BATCH)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), neuron, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 5),
        nabs_layer("IAFSqueeze", num_timesteps=STEPS),
    )  # fmt: skip


def nabs_repeated() -> nn.Module:
    pytest.importorskip("sinabs")
    from sinabs.layers import Repeat

    return nn.Sequential(
        Repeat(nn.Conv2d(1, 4, 3)), nabs_layer("LIF"), Repeat(nn.AvgPool2d(2)), nn.Flatten(2), nn.Linear(36, 5),
        nabs_layer("IAF"),
    )  # fmt: skip


def nabs_folding() -> nn.Module:
    pytest.importorskip("sinabs")
    from sinabs.layers import FlattenTime, UnflattenTime

    return nn.Sequential(
        FlattenTime(), nn.Conv2d(1, 4, 3), UnflattenTime(BATCH), nabs_layer("LIF"), FlattenTime(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(36, 5), UnflattenTime(BATCH), nabs_layer("IAF"),
    )  # fmt: skip


def norse_parameters(kind: str) -> Any:
    pytest.importorskip("norse")
    import norse.torch as library

    return getattr(library, kind)(method="tanh", alpha=torch.tensor(2.0))


def norse_cells() -> nn.Module:
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(
        nn.Conv2d(1, 4, 3), library.LIFBoxCell(norse_parameters("LIFBoxParameters"), dt=0.004), nn.AvgPool2d(2),
        nn.Flatten(),
        library.SequentialState(nn.Linear(36, 5), library.IAFCell(norse_parameters("IAFParameters"))),
    )  # fmt: skip


def norse_lifted() -> nn.Module:
    pytest.importorskip("norse")
    import norse.torch as library

    return library.SequentialState(
        library.Lift(nn.Conv2d(1, 4, 3)), library.IAF(norse_parameters("IAFParameters")), nn.Flatten(2),
        nn.Linear(144, 5), library.Lift(library.LIFBoxCell(norse_parameters("LIFBoxParameters"), dt=0.004)),
    )  # fmt: skip


class NorseForward(nn.Module):
    """Cells whose states are handed from call to call."""

    def __init__(self) -> None:
        super().__init__()
        pytest.importorskip("norse")
        import norse.torch as library

        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(144, 5)
        self.one = library.LIFBoxCell(norse_parameters("LIFBoxParameters"), dt=0.004)
        self.two = library.IAFCell(norse_parameters("IAFParameters"))

    def forward(self, x: Tensor) -> Tensor:
        s1 = s2 = None
        outputs = []
        for step in x:
            z, s1 = self.one(self.conv(step), s1)
            z, s2 = self.two(self.fc(z.flatten(1)), s2)
            outputs.append(z)
        return torch.stack(outputs)


MODELS = {
    "SpikingJelly s": lambda: jelly_layers("s"),
    "SpikingJelly m": lambda: jelly_layers("m"),
    "SpikingJelly m without norm": lambda: jelly_layers("m", norm=False),
    "SpikingJelly containers": JellyForward,
    "SpikingJelly mean": lambda: JellyForward(mean=True),
    "snnTorch step": Snn,
    "snnTorch loop over time": lambda: Snn("time"),
    "snnTorch loop, batch first": lambda: Snn("batch"),
    "snnTorch hidden": hidden,
    "sinabs folded": nabs_folded,
    "sinabs Repeat": nabs_repeated,
    "sinabs FlattenTime": nabs_folding,
    "Norse cells": norse_cells,
    "Norse Lift": norse_lifted,
    "Norse loop": NorseForward,
}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return loud(MODELS[name]()), images()


@every_model
def test_a_model_is_converted_and_proven(name: str) -> None:
    model, x = made(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    found = convert(model, x)
    assert found.proven and len(found.rows) >= 2, found.table()
    assert all(row.fired and not row.differing and not row.free for row in found.rows), found.table()
    assert {id(p) for p in found.module.parameters() if p.requires_grad and p.dim()} == {
        id(p) for p in model.parameters() if p.requires_grad and p.dim()
    }
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert [m.training for m in model.modules()] == modes
    assert not any(type(m).__module__.startswith(("spikingjelly", "snntorch", "sinabs", "norse"))
                   for m in found.module.modules() if not hasattr(m, "spiking")), found.module  # fmt: skip
    net = Network(found.module)
    output, _ = net.run(x)
    assert isinstance(output, Tensor) and output.shape[:2] == (STEPS, BATCH)


@every_model
def test_a_converted_model_learns(name: str) -> None:
    model, x = made(name)
    net = Network(convert(model, x).module)
    weights = {key: p for key, p in model.named_parameters() if p.requires_grad}
    before = {key: p.detach().clone() for key, p in weights.items()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in OTTT().updates(net.eval(), x, torch.tensor([0, 1, 2]), PerStep(nn.CrossEntropyLoss())):
        optimizer.step()
        optimizer.zero_grad()
    changed = [key for key in weights if not torch.equal(weights[key], before[key])]
    assert [key for key in changed if key.endswith("weight")], changed


def theirs(model: nn.Module, x: Tensor) -> Tensor:
    """What the model itself returns, from rest."""
    if isinstance(model, Snn):
        return model(x)
    from spikingjelly.activation_based import functional

    functional.reset_net(model)
    return model(x)


@pytest.mark.parametrize("rule", [OTTT, SLTT])
@pytest.mark.parametrize("name", ["SpikingJelly m without norm", "snnTorch loop over time"])
def test_training_here_trains_the_model(name: str, rule: Any) -> None:
    torch.manual_seed(0)
    model, x = loud(MODELS[name](), 0.7), images()
    found = convert(model, x)
    net = Network(found.module)
    optimizer = torch.optim.SGD(net.parameters(), 0.2)
    first = theirs(model.eval(), x).detach()
    net.train()
    for _ in range(4):
        for _ in rule().updates(net, x, torch.tensor([0, 1, 2]), PerStep(nn.CrossEntropyLoss())):
            optimizer.step()
            optimizer.zero_grad()
    found.write_back()
    net.eval()
    with torch.no_grad():
        ours, here = net(x), theirs(model.eval(), x)
    assert not torch.equal(here, first)
    if not torch.equal(ours, here):  # then for rounding, and for nothing else
        assert sum(row.differing + row.free for row in convert(model, x).rows) > 0


def test_a_trained_time_constant_is_written_back() -> None:
    model, x = made("SpikingJelly s")
    found = convert(model, x)
    logit = next(p for key, p in found.module.named_parameters() if key.endswith("leak_logit"))
    with torch.no_grad():
        logit.add_(0.75)
    written = found.write_back()
    assert written == {"9.w": model[9].w.item()} and model[9].w.item() == -logit.item()  # type: ignore[index]
    assert not any(row.differing for row in convert(model, x).rows)


def test_a_trained_beta_is_written_back() -> None:
    model, x = Snn(), images()
    model.lif2 = type(model.lif2)(beta=0.6, reset_mechanism="zero", learn_beta=True)
    found = convert(loud(model), x)
    assert found.rows[1].ours.startswith("LIF(tau=2.5, learn_tau=True")
    logit = next(p for key, p in found.module.named_parameters() if key.endswith("leak_logit"))
    with torch.no_grad():
        logit.add_(0.75)
    assert found.write_back() == {"lif2.beta": pytest.approx(torch.sigmoid(logit).item())}
    assert not any(row.differing for row in convert(model, x).rows)


def test_a_loop_inside_forward_is_told() -> None:
    with pytest.raises(
        ConversionError, match=rf"'lif1' is called {STEPS} times.*\(its num_steps is {STEPS}\)(.|\n)*Give step="
    ):
        convert(Snn("static"), images())
    with pytest.raises(ConversionError, match=r"set its number of steps to 1 \(model.num_steps = 1\)"):
        convert(Snn("static"), images())


def test_a_loop_of_one_step_is_none() -> None:
    model, x = loud(Snn("static")), images()
    model.num_steps = 1  # type: ignore[assignment]
    found = convert(model, x)
    assert found.proven and not any(row.differing or row.free for row in found.rows)


def test_a_function_for_one_step_is_taken() -> None:
    model, x = loud(Snn("both")), images()
    found = convert(model, x, step=lambda model, x: model.step(x, None, None)[0])
    assert found.proven and not any(row.differing or row.free for row in found.rows)
    output, _ = model(x)
    assert torch.equal(Network(found.module)(x), output)


def test_potentials_that_are_used_are_returned() -> None:
    model, x = loud(Snn("both")), images()
    found = convert(model, x)
    assert ["potential=" in row.ours for row in found.rows] == [False, True]
    for one, other in zip(Network(found.module)(x), model(x), strict=True):
        torch.testing.assert_close(one, other)


def test_a_state_of_ones_own_is_refused() -> None:
    model = loud(Snn())
    with pytest.raises(ConversionError, match=r"a state of its own making"):
        convert(model, images(), step=lambda model, x: model.step(x, torch.ones(3, 4, 6, 6), None)[0])


def test_a_layer_that_hardly_fires_is_told() -> None:
    model, x = hidden(), images()
    model[0].bias = model[4].bias = None  # type: ignore[index]
    found = convert(model, 1e-4 * x)
    quiet = [row for row in found.rows if not row.proven]
    assert not found.proven and quiet and all("not proven on x" in row.reason for row in quiet)
    assert all(row.probed > 100_000 for row in quiet)


def test_the_mode_of_batch_norms_and_dropout_is_kept_and_told() -> None:
    for mode, joint in (("s", False), ("m", True)):
        model, x = made(f"SpikingJelly {mode}")
        found = convert(model, x)
        norm, dropout = found.module[1], found.module[6]  # type: ignore[index]
        assert isinstance(norm, JointBatchNorm2d) == joint and norm.running_mean is model[1].running_mean  # type: ignore[index]
        assert type(dropout) is nn.Dropout
        assert any("batch norm in training mode: proven" in remark for remark in found.remarks)
        assert any("dropout in training mode is not proven" in remark for remark in found.remarks)


def test_plain_dropout_draws_at_every_step() -> None:
    model, x = made("snnTorch step")
    model.pool = nn.Sequential(nn.AvgPool2d(2), nn.Dropout(0.1))  # type: ignore[assignment]
    found = convert(model, x)
    assert [type(m) for m in found.module.modules() if "Dropout" in type(m).__name__] == [StepDropout]
    model.pool = nn.Sequential(nn.AvgPool2d(2), nn.Dropout2d(0.1))  # type: ignore[assignment]
    with pytest.raises(ConversionError, match=r"layer 'pool\.1' is Dropout2d.*other channels at every step"):
        convert(model, x)


def test_whole_networks_run_in_double_precision_where_they_can() -> None:
    model, x = made("SpikingJelly m")
    assert "whole network in float64: 0 spikes differ" in convert(model, x, double=True).remarks
    assert not any("float64" in remark for remark in convert(model, x, double=False).remarks)
    with pytest.raises(ConversionError, match=r"double=True.*networks of snnTorch cannot"):
        convert(*made("snnTorch step"), double=True)
    assert any("not proven in float64" in remark for remark in convert(*made("snnTorch step")).remarks)


def test_a_single_neuron_is_a_model() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    found: Conversion = convert(neuron.IFNode(), torch.rand(5, 2, 3))
    assert isinstance(found.module, IF) and found.rows[0].layer == ""
    assert "(model)" in found.table()


def test_subclasses_that_change_nothing_are_read_as_their_base() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")

    class Mine(neuron.LIFNode):
        """With other defaults."""

        def __init__(self) -> None:
            super().__init__(tau=3.0)

    found = convert(nn.Sequential(nn.Linear(3, 4), Mine()), torch.rand(5, 2, 3))
    assert isinstance(found.module[1], LIF) and found.rows[0].theirs.startswith("Mine(tau=3")  # type: ignore[index]


def test_a_network_of_such_neurons_says_where_to_go() -> None:
    for name in MODELS:
        try:
            model, _ = made(name)
        except pytest.skip.Exception:
            continue
        with pytest.raises(NetworkError, match=r"spikewright\.interop\.convert\(model, x\)"):
            Network(model)


def test_weights_that_are_computed_stay_so() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), neuron.IFNode())
    x = 3 * torch.rand(6, 2, 3)
    found = convert(model, x)
    assert {id(p) for p in found.module.parameters()} == {id(p) for p in model.parameters()}
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert not convert(model, x).rows[0].differing


def test_nothing_random_is_drawn_from_outside() -> None:
    model, x = made("SpikingJelly s")
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    convert(model, x)
    assert torch.equal(torch.rand(3), expected)


def test_per_neuron_betas_are_kept_with_a_hard_reset() -> None:
    snn = pytest.importorskip("snntorch")
    beta = torch.tensor([0.2, 0.5, 0.9])
    model = nn.Sequential(nn.Linear(4, 3), snn.Leaky(beta=beta, reset_mechanism="zero", init_hidden=True))
    found = convert(loud(model), 2 * torch.rand(8, 5, 4))
    neuron = found.module[1]  # type: ignore[index]
    assert isinstance(neuron, Neuron) and found.proven and "tau=tensor" in found.rows[0].ours
