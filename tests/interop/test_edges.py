"""Odd models: the same axis length twice, several outputs, steps given by the user, hooks, NaN slopes."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import convert
from spikewright.network import Network
from tests.interop.test_models import BATCH, STEPS, Snn, images, jelly_layers, loud, made


def jelly() -> Any:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import layer, neuron

    return neuron, layer


@pytest.mark.parametrize("form", ["time", "batch"])
def test_an_axis_is_not_taken_for_another_of_its_length(form: str) -> None:
    x = 3 * torch.rand(5, 5, 1, 8, 8)
    found = convert(loud(Snn(form)), x)
    assert found.proven and not any(row.differing or row.free for row in found.rows)


class Two(nn.Module):
    """Returns what two layers send."""

    def __init__(self, swapped: bool = False) -> None:
        super().__init__()
        neuron, _ = jelly()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)
        self.lif1, self.lif2 = neuron.LIFNode(2.0, decay_input=False), neuron.IFNode()
        self.swapped = swapped

    def forward(self, x: Tensor) -> Any:
        y = self.lif1(self.one(x))
        z = self.lif2(self.two(y))
        return {"z": z, "y": y} if self.swapped else (y, z)


@pytest.mark.parametrize("swapped", [False, True])
def test_several_outputs_are_compared(swapped: bool) -> None:
    x = 3 * torch.rand(STEPS, BATCH, 4)
    found = convert(loud(Two(swapped)), x)
    output, _ = Network(found.module).run(x)
    assert len(output) == 2 and found.proven


class Behind(nn.Module):
    """What stands behind the last neurons depends on time."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        neuron, _ = jelly()
        self.fc, self.lif, self.out = nn.Linear(4, 3), neuron.IFNode(step_mode="m"), nn.Linear(3, 2)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(self.lif(self.fc(x)))
        return {"cumulated": y.cumsum(0), "max": y.max(0).values, "sum": y.sum(0), "last": y[-1], "mean": y.mean(0)}[
            self.kind
        ]


@pytest.mark.parametrize("kind", ["sum", "mean", "last"])
def test_an_output_for_the_sequence_is_one_of_each_step_here(kind: str) -> None:
    x = 3 * torch.rand(STEPS, BATCH, 4)
    found = convert(loud(Behind(kind)), x)
    assert Network(found.module)(x).shape == (STEPS, BATCH, 2)


@pytest.mark.parametrize("kind", ["cumulated", "max"])
def test_what_is_not_done_step_by_step_is_refused(kind: str) -> None:
    with pytest.raises(ConversionError, match=r"the neurons agree in the float32 run, but not the output"):
        convert(loud(Behind(kind)), 3 * torch.rand(STEPS, BATCH, 4))


class Mixing(nn.Module):
    """Currents that depend on other steps."""

    def __init__(self) -> None:
        super().__init__()
        neuron, _ = jelly()
        self.fc, self.lif = nn.Linear(4, 3), neuron.IFNode(step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.fc(x) - 0.5 * self.fc(x).mean(0))


def test_a_current_from_other_steps_is_found() -> None:
    with pytest.raises(ConversionError, match=r"current of layer 'lif' differs.*before any spike differs"):
        convert(loud(Mixing()), 3 * torch.rand(STEPS, BATCH, 4))


def test_a_neuron_at_two_places_is_refused() -> None:
    neuron, _ = jelly()
    shared = neuron.IFNode()
    model = nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 4), shared)
    with pytest.raises(ConversionError, match=r"'1' is called 2 times.*uses a neuron at several places"):
        convert(loud(model), torch.rand(STEPS, BATCH, 4))


def test_a_neuron_that_is_never_called_is_told() -> None:
    neuron, _ = jelly()
    model = nn.Sequential(nn.Linear(4, 4), neuron.IFNode())
    model[0].spare = neuron.IFNode()
    with pytest.raises(ConversionError, match=r"layer '0.spare' is not called"):
        convert(model, torch.rand(STEPS, BATCH, 4))


def test_a_step_of_a_model_over_time_has_its_axis() -> None:
    torch.manual_seed(0)
    model, x = loud(jelly_layers("m")), images()
    found = convert(model, x, step=lambda model, x: model(x.unsqueeze(0)).squeeze(0))
    assert found.proven and not any(row.differing or row.free for row in found.rows)
    assert torch.equal(Network(found.module.eval())(x), Network(convert(model, x).module.eval())(x))


def test_hooks_on_what_is_taken_away_are_refused_and_others_stay() -> None:
    _, layer = jelly()
    torch.manual_seed(0)
    model, x = loud(jelly_layers("s")), images()
    seen: list[int] = []
    model[0].register_forward_hook(lambda *given: seen.append(1))  # type: ignore[index]
    found = convert(model, x)
    before = len(seen)
    Network(found.module.eval()).run(x)
    assert len(seen) > before
    model = nn.Sequential(layer.SeqToANNContainer(nn.Conv2d(1, 2, 3)), jelly()[0].IFNode(step_mode="m"))
    model[0].register_forward_hook(lambda *given: None)
    with pytest.raises(ConversionError, match=r"layer '0' is SeqToANNContainer.*hooks are registered on it"):
        convert(model, x)


def test_slopes_that_are_nan_are_told() -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch import surrogate

    model = nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.5, spike_grad=surrogate.sigmoid(25), init_hidden=True))
    found = convert(loud(model), 2 * torch.rand(STEPS, BATCH, 4))
    assert "its own gradient is NaN or infinite for" in found.rows[0].reason
    assert "Sigmoid(alpha=25.0)" in found.rows[0].ours


@pytest.mark.parametrize("name", ["fast_sigmoid", "sigmoid", "atan", "custom", "straight_through_estimator"])
def test_any_surrogate_is_kept(name: str) -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch import surrogate

    given = surrogate.custom_surrogate(lambda x, grad, out: grad / (1 + x.abs())) if name == "custom" else None
    spike_grad = given or getattr(surrogate, name)()
    model = nn.Sequential(nn.Linear(4, 3), snn.Leaky(0.5, spike_grad=spike_grad, init_hidden=True))
    found = convert(loud(model), 2 * torch.rand(STEPS, BATCH, 4))
    assert found.rows[0].gradient < 1e-5


def test_the_default_surrogates_of_sinabs_and_norse_are_kept() -> None:
    pytest.importorskip("sinabs")
    pytest.importorskip("norse")
    import norse.torch as norse
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAF

    for neuron in (IAF(spike_fn=SingleSpike), norse.IAF(), norse.IAFCell()):
        found = convert(nn.Sequential(nn.Identity(), neuron), 2 * torch.rand(STEPS, BATCH, 4))
        kind = "FastSigmoid(alpha=1.0" if "Norse" in found.library else "Exponential(width=0.5"
        assert f"surrogate={kind}, factor=2.0)" in found.rows[0].ours and found.rows[0].gradient < 1e-6


def test_an_unknown_layer_over_time_is_refused_by_name() -> None:
    neuron, layer = jelly()
    for unknown in (layer.SynapseFilter(step_mode="m"), layer.TLastMultiStepContainer(nn.Identity())):
        model = nn.Sequential(nn.Linear(4, 4), unknown, neuron.IFNode(step_mode="m"))
        with pytest.raises(ConversionError, match=rf"layer '1' is {type(unknown).__name__} of SpikingJelly"):
            convert(model, torch.rand(STEPS, BATCH, 4))


def test_a_converted_module_saves_and_loads_weights() -> None:
    model, x = made("SpikingJelly s")
    found = convert(model, x)
    other, _ = made("SpikingJelly s")
    again = convert(other, x)
    again.module.load_state_dict(found.module.state_dict())
    assert torch.equal(other[0].weight, model[0].weight)  # type: ignore[index]


def test_the_result_does_not_depend_on_the_chunk() -> None:
    for name in ("SpikingJelly containers", "snnTorch loop over time", "sinabs Repeat"):
        model, x = made(name)
        net = Network(convert(model, x).module.eval())
        whole, state = net.run(x)
        parts = []
        carried = None
        for chunk in x.split(2):
            y, carried = net.run(chunk, carried)
            parts.append(y)
        assert torch.equal(torch.cat(parts), whole) and state.keys() == carried.keys()  # type: ignore[union-attr]


def test_one_step_and_one_sample_are_enough() -> None:
    model, _ = made("SpikingJelly s")
    assert convert(model, 3 * torch.rand(1, 1, 1, 8, 8)).rows
    assert convert(loud(Snn("time")), 3 * torch.rand(2, 1, 1, 8, 8)).rows


def test_a_trained_surrogate_is_refused() -> None:
    neuron, _ = jelly()

    class Trained(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            soft = torch.sigmoid(self.alpha * x)
            return (x >= 0).to(x.dtype) + (soft - soft.detach())

    with pytest.raises(ConversionError, match=r"its surrogate_function.alpha is trained"):
        convert(nn.Sequential(nn.Linear(4, 3), neuron.IFNode(surrogate_function=Trained())), torch.rand(6, 3, 4))


def test_slopes_that_jump_at_the_threshold_are_theirs_at_ties() -> None:
    snn = pytest.importorskip("snntorch")
    from snntorch import surrogate

    cell = snn.Leaky(0.5, spike_grad=surrogate.triangular(), reset_mechanism="zero", init_hidden=True)
    found = convert(nn.Sequential(nn.Identity(), cell), 2 * torch.rand(6, 3, 4))
    x = torch.full((1, 1, 1), 1.0)  # the threshold
    neuron = found.module[1]  # type: ignore[index]
    slope = neuron.surrogate.slope(x - neuron.threshold)
    assert slope.item() == -1


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_in_any_mode_of_autograd(mode: Any) -> None:
    neuron, _ = jelly()
    model = nn.Sequential(nn.Linear(4, 3), neuron.IFNode())
    with mode():
        found = convert(model, 2 * torch.rand(6, 3, 4))
    assert found.rows[0].gradient < 1e-9


def test_only_the_library_of_the_model_is_imported() -> None:
    jelly()
    program = (
        "import sys, torch, spikewright as sw; before = set(sys.modules)\n"
        "sw.interop.convert; print(sorted({m.partition('.')[0] for m in set(sys.modules) - before} & LIBRARIES))\n"
        "from spikingjelly.activation_based import neuron\n"
        "sw.interop.convert(torch.nn.Sequential(torch.nn.Linear(3, 3), neuron.IFNode()), torch.rand(4, 2, 3))\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & LIBRARIES))"
    ).replace("LIBRARIES", "{'spikingjelly', 'snntorch', 'sinabs', 'norse'}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "['spikingjelly']"], done.stderr


class Asking(nn.Module):
    """Asks its layers for their step mode, as the models of SpikingJelly do."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        neuron, layer = jelly()
        self.conv, self.lif = layer.Conv2d(1, 4, 3, step_mode=mode), neuron.IFNode(step_mode=mode)
        self.pool, self.fc = layer.AdaptiveAvgPool2d((2, 2), step_mode=mode), layer.Linear(16, 3, step_mode=mode)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.lif(self.conv(x)))
        y = torch.flatten(y, 2 if self.pool.step_mode == "m" and self.lif.step_mode == "m" else 1)
        return self.fc(y)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_forward_may_ask_for_the_step_mode(mode: str) -> None:
    found = convert(loud(Asking(mode)), images())
    assert found.proven and not any(row.differing or row.free for row in found.rows)


def test_gradients_that_grow_are_no_fault() -> None:
    pytest.importorskip("sinabs")
    from sinabs.activation import MembraneSubtract, SingleExponential, SingleSpike
    from sinabs.layers import IAF

    neuron = IAF(
        spike_threshold=torch.tensor(0.15666), spike_fn=SingleSpike, reset_fn=MembraneSubtract(0.8710629844427076),
        surrogate_grad_fn=SingleExponential(0.5559804587451803),
    )  # fmt: skip
    assert convert(nn.Sequential(nn.Identity(), neuron), torch.randn(12, 3, 5)).rows[0].gradient < 1e-5
