"""Networks as programs of torch: operators of torch alone, the numbers of a run, and what cannot be exported."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import ConfigError, NetworkError
from spikewright.interop import export
from spikewright.interop.comparing import compared
from spikewright.kernels import native
from spikewright.kernels.operators import fused

L = nn.Linear


def mlp(*neurons: nn.Module) -> nn.Sequential:
    first, second = neurons
    return nn.Sequential(L(6, 12), first, L(12, 4), second)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "soft": (lambda: mlp(sw.LIF(), sw.LIF(tau=3.0)), (6,)),
    "hard": (lambda: mlp(sw.LIF(reset="zero"), sw.IF(reset="zero")), (6,)),
    "late and strict": (lambda: mlp(sw.LIF(reset="late", strict=True), sw.LIF(strict=True)), (6,)),
    "several spikes": (lambda: mlp(sw.LIF(max_spikes=None, lower_bound=-1.0), sw.LIF(amplitude=0.5)), (6,)),
    "per channel": (lambda: mlp(sw.LIF([2.0] * 6 + [4.0] * 6, threshold=[0.5] * 12), sw.LIF(learn_tau=True)), (6,)),
    "current": (lambda: mlp(sw.CUBALIF(), sw.LI()), (6,)),
    "adaptive": (lambda: mlp(sw.ALIF(tau=3.0, tau_adaptation=10.0), sw.AlphaLIF()), (6,)),
    "recurrent": (lambda: mlp(sw.Recurrent(sw.LIF(), L(12, 12, bias=False)), sw.LI()), (6,)),
    "recurrent with bias": (lambda: mlp(sw.Recurrent(sw.LIF(), L(12, 12), first="bias"), sw.LI()), (6,)),
    "delays": (lambda: nn.Sequential(L(6, 12), sw.LIF(), sw.SynapticDelay(12, max_delay=3), L(12, 4)), (6,)),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), sw.LIF(), nn.AvgPool2d(2), nn.Dropout(0.3), nn.Conv2d(4, 6, 2),
            sw.IF(reset="zero"), nn.Flatten(), L(24, 5), sw.LI(),
        ),
        (2, 8, 8),
    ),
    "shared": (lambda: Twice(), (6,)),
    "parametrized": (lambda: mlp_with_norm(), (6,)),
}  # fmt: skip


class Twice(nn.Module):
    """A layer and neurons that are called twice in a step, with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.neuron, self.out = L(6, 6), sw.LIF(), L(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.neuron(self.inner(x))
        return self.out(y + self.neuron(self.inner(y)))


def mlp_with_norm() -> nn.Module:
    module = mlp(sw.LIF(), sw.LIF())
    for layer in (module[0], module[2]):
        layer.weight.data.mul_(3.0)  # the factors below act on what the parametrization computes
    nn.utils.parametrizations.weight_norm(module[0])
    return module


def network(name: str) -> tuple[sw.Network, Tensor]:
    torch.manual_seed(0)
    make, shape = MODULES[name]
    module = make()
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.weight.data.mul_(1.5)  # neurons fire everywhere
            if part.bias is not None:
                part.bias.data.add_(0.1)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.1, 0.4)
    return sw.Network(module).eval(), 3 * torch.rand(5, 4, *shape)


def namespaces(program: Any) -> set[str]:
    found = [node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return {target.namespace for target in found}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "steps"),
    [*((name, "one") for name in MODULES), *((name, "unrolled") for name in ("soft", "recurrent", "delays", "conv"))],
)
@pytest.mark.long
def test_a_program_computes_what_a_run_computes(name: str, steps: Any) -> None:
    net, x = network(name)
    exported = export(net, x, steps=steps)
    assert namespaces(exported.program) == {"aten"}
    assert exported.batch is None
    assert [row.differing for row in exported.rows] == [0] * len(exported.rows)
    other = torch.flip(x[:, :3], (0,))  # another batch, and other values
    output, state = net.run(other)
    if steps == "unrolled":
        assert torch.equal(exported.program.module()(other), output)
        return
    states, outputs = tuple(value[:3] for value in exported.rest.values()), list[Tensor]()
    for step in other:
        sent, states = exported.program.module()(step, states)
        outputs.append(sent)
    assert torch.allclose(torch.stack(outputs), output, atol=1e-12) and output.abs().sum() > 0
    flat = {f"{site}.{key}": value for site, own in state.items() for key, value in own.items()}
    assert flat.keys() == exported.rest.keys()
    assert all(torch.allclose(after, flat[key], atol=1e-12) for key, after in zip(exported.rest, states, strict=True))


def test_networks_of_the_test_fire() -> None:
    for name in MODULES:
        net, x = network(name)
        run = net.start(x)
        run.advance(x)
        assert all(0.02 < rate < 3 for rate in run.rates().values()), (name, run.rates())


def test_outside_of_an_export_the_kernels_are_used() -> None:
    x = torch.rand(3, 2, 4)
    torch.export.export(nn.Identity(), (x,))
    assert fused(x) == native.available(x)


def test_names_and_table() -> None:
    net, x = network("current")
    exported = export(net, x)
    assert exported.names[0] == ["x", "1.current", "1.membrane", "3.membrane"]
    assert exported.names[1][0] == "output" and exported.names[1][1] == "1.current.next"
    assert "3.membrane.next" in exported.table() and "largest difference" in exported.table()


def noisy() -> sw.Network:
    return sw.Network(mlp(sw.LIF(noise=0.1), sw.LIF())).eval()


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = sw.LIF()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.neuron(x), x


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "noise": (noisy, r"'1' is a LIF with noise=0.1"),
    "dropout": (lambda: sw.Network(nn.Sequential(L(6, 3), nn.Dropout(0.5), sw.LIF())), "'1' is a Dropout, .* net.eval"),
    "step dropout": (
        lambda: sw.Network(nn.Sequential(L(6, 3), sw.layers.StepDropout(0.5), sw.LIF())), "'1' is a StepDropout",
    ),
    "batch norm": (
        lambda: sw.Network(nn.Sequential(L(6, 3), nn.BatchNorm1d(3), sw.LIF())), "'1' is a BatchNorm1d, .* net.eval",
    ),
    "random": (
        lambda: sw.Network(nn.Sequential(L(6, 3), Random(), sw.LIF()), known=["1"]).eval(), "random numbers.*'1'",
    ),
    "several outputs": (lambda: sw.Network(Pair()).eval(), "several outputs"),
    "feedback with bias": (
        lambda: sw.Network(nn.Sequential(L(6, 3), sw.Recurrent(sw.LIF(), L(3, 3)))).eval(),
        "'1' sends nothing .*unrolled",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(NetworkError, match=message):
        export(make(), torch.rand(3, 2, 6))


@pytest.mark.long
def test_feedback_with_bias_is_exported_as_a_whole_run() -> None:
    net, x = sw.Network(nn.Sequential(L(6, 3), sw.Recurrent(sw.LIF(), L(3, 3)))).eval(), torch.rand(3, 2, 6)
    assert torch.equal(export(net, x, steps="unrolled").program.module()(x), net.run(x)[0])


def test_arguments_are_checked() -> None:
    net = noisy()
    with pytest.raises(ConfigError, match="Wrap the module"):
        export(net.module, torch.rand(3, 2, 6))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps"):
        export(net, torch.rand(3, 2, 6), steps="two")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="programs take one tensor"):
        export(net, [torch.rand(3, 2, 6)])  # type: ignore[arg-type]


def test_differences_are_told_and_many_are_refused() -> None:
    x = torch.zeros(1000)
    few, many = x.clone(), x.clone()
    few[0], many[:11] = 1.0, 1.0
    assert compared("it", {"a": x}, {"a": x})[0].largest == 0
    with pytest.warns(UserWarning, match="1 of 1000 values of 'a', by up to 1"):
        assert compared("it", {"a": few}, {"a": x})[0].differing == 1
    with pytest.raises(NetworkError, match="it computes something else: 11 of 1000"):
        compared("it", {"a": many}, {"a": x})
    with pytest.raises(NetworkError, match="computes something else"):
        compared("it", {"a": x * float("nan")}, {"a": x})
    with pytest.raises(NetworkError, match=r"is \[2\], and not \[1000\]"):
        compared("it", {"a": x[:2]}, {"a": x})
