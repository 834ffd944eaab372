"""The residual network of HLOP: its synapses and maps by hand, its blocks by formula, its gradients by a program."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikewright.models import StreamResNet18
from spikewright.models.stream_resnet import StreamBlock
from spikewright.network import Network
from spikewright.rules import BPTT, DSR, OTTT, Rule
from tests.nets import lif
from tests.oracles import bptt, ottt, rate
from tests.oracles.compare import assert_agree
from tests.oracles.draw import draw
from tests.oracles.machine import Machine, Params
from tests.rules.support import collected, learn

# Outputs, and inputs of one output, of every weight.
SYNAPSES = {"stem": (20, 27), "readout": (10, 160)}
SYNAPSES |= {f"blocks.{block}.branch.{place}": (20, 180) for block in (0, 1) for place in (0, 3)}
SYNAPSES |= {"blocks.2.branch.0": (40, 180), "blocks.2.branch.3": (40, 360), "blocks.2.shortcut": (40, 20)}
SYNAPSES |= {"blocks.3.branch.0": (40, 360), "blocks.3.branch.3": (40, 360)}
SYNAPSES |= {"blocks.4.branch.0": (80, 360), "blocks.4.branch.3": (80, 720), "blocks.4.shortcut": (80, 40)}
SYNAPSES |= {"blocks.5.branch.0": (80, 720), "blocks.5.branch.3": (80, 720)}
SYNAPSES |= {"blocks.6.branch.0": (160, 720), "blocks.6.branch.3": (160, 1440), "blocks.6.shortcut": (160, 80)}
SYNAPSES |= {"blocks.7.branch.0": (160, 1440), "blocks.7.branch.3": (160, 1440)}


def test_it_has_the_weights_of_the_paper():
    model = StreamResNet18((3, 32, 32), 10, nn.ReLU)
    weights = {name.removesuffix(".weight"): p for name, p in model.named_parameters() if p.dim() > 1}
    assert {name: (len(p), p[0].numel()) for name, p in weights.items()} == SYNAPSES
    assert sum(p.numel() for p in model.parameters()) == 1_090_140 + 2 * 1_220 + 1_610
    assert all(m.bias is None for m in model.modules() if isinstance(m, nn.Conv2d))
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 17


def maps(model: StreamResNet18, side: int) -> list[tuple[int, ...]]:
    found = []
    for module in (model.stem, *model.blocks):
        module.register_forward_hook(lambda *hook: found.append(tuple(hook[2].shape[1:])))
    model(torch.zeros(2, 3, side, side))
    return found


def test_stages_halve_the_map():
    sizes = [(20, 32, 32)] * 3 + [(40, 16, 16)] * 2 + [(80, 8, 8)] * 2 + [(160, 4, 4)] * 2
    assert maps(StreamResNet18((3, 32, 32), 10, nn.ReLU), 32) == sizes


def test_the_larger_stem_halves_the_image_first():
    model = StreamResNet18((3, 84, 84), 100, nn.ReLU, stem="miniimagenet", width=0.5)
    assert maps(model, 84) == [(10, 42, 42)] * 3 + [(20, 21, 21)] * 2 + [(40, 11, 11)] * 2 + [(80, 6, 6)] * 2
    assert model.stem.weight.shape == (10, 3, 5, 5)


def test_weights_start_as_published():
    torch.manual_seed(0)
    model = StreamResNet18((3, 32, 32), 100, nn.ReLU)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            spread = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
            assert module.weight.std().item() == pytest.approx(spread, rel=0.1)
    assert model.readout.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.readout.bias.any()
    assert StreamResNet18((3, 32, 32), 100, nn.ReLU, bias=False).readout.bias is None


def normalise(x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("fan_out, stride", [(4, 1), (6, 1), (4, 2)])
def test_the_identity_carries_the_stream_and_the_shortcut_spikes(fan_out, stride):
    torch.manual_seed(0)
    block, x = StreamBlock(4, fan_out, stride, nn.ReLU).double(), torch.randn(3, 4, 6, 6).double()
    spikes = normalise(x).relu()
    first, _, _, second = block.branch
    hidden = normalise(F.conv2d(spikes, first.weight, None, stride, 1)).relu()
    kept = x if fan_out == 4 and stride == 1 else F.conv2d(spikes, block.shortcut.weight, None, stride)
    torch.testing.assert_close(block(x), kept + F.conv2d(hidden, second.weight, None, 1, 1))


def small() -> StreamResNet18:
    """Two stages of a block each, in evaluation mode, with drawn weights and statistics."""
    torch.manual_seed(0)
    model = StreamResNet18((2, 8, 8), 4, lif, blocks=(1, 1), width=1 / 5).double()
    model.load_state_dict(
        draw({n.removesuffix(".weight"): tuple(p.shape) for n, p in model.named_parameters() if p.dim() > 1}, 0),
        strict=False,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_var, module.weight):
                nn.init.uniform_(value, 0.8, 1.6)
            for value in (module.running_mean, module.bias):
                nn.init.uniform_(value, -0.3, 0.6)
    return model.eval()


def written_out(model: StreamResNet18) -> Callable[[Tensor, Machine], Tensor]:
    """The network of `small` as a step program."""
    statistics = {name: value for name, value in model.named_buffers() if "running" in name}

    def norm(name: str, x: Tensor, net: Machine) -> Tensor:
        mean, variance = (statistics[f"{name}.running_{kind}"][:, None, None] for kind in ("mean", "var"))
        gain, shift = (net.params[f"{name}.{kind}"][:, None, None] for kind in ("weight", "bias"))
        return gain * (x - mean) / (variance + 1e-5).sqrt() + shift

    def program(x: Tensor, net: Machine) -> Tensor:
        stream = net.syn("stem", x, post="a", padding=1)
        a = net.lif("a", norm("blocks.0.enter.0", stream, net), 2.0)
        b = net.syn("blocks.0.branch.0", a, pre="a", post="b", padding=1)
        b = net.lif("b", norm("blocks.0.branch.1", b, net), 2.0)
        stream = stream + net.syn("blocks.0.branch.3", b, pre="b", post="c", padding=1)
        c = net.lif("c", norm("blocks.1.enter.0", stream, net), 2.0)
        d = net.syn("blocks.1.branch.0", c, pre="c", post="d", stride=2, padding=1)
        d = net.lif("d", norm("blocks.1.branch.1", d, net), 2.0)
        stream = net.syn("blocks.1.shortcut", c, pre="c", post="e", stride=2)
        stream = stream + net.syn("blocks.1.branch.3", d, pre="d", post="e", padding=1)
        e = net.lif("e", norm("leave.0", stream, net), 2.0)
        return net.syn("readout", e.mean((2, 3)), pre="e")

    return program


def parameters(model: StreamResNet18) -> Params:
    """The parameters, with a bias of zero at every synapse that has none."""
    params = {name: p.detach() for name, p in model.named_parameters()}
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return params | {
        f"{name}.bias": params[f"{name}.weight"].new_zeros(len(params[f"{name}.weight"])) for name in convolutions
    }


@pytest.mark.parametrize(
    "rule, oracle",
    [(BPTT(), bptt.gradients), (OTTT(), ottt.gradients), (DSR(), rate.gradients)],
    ids=["bptt", "ottt", "dsr"],
)
def test_gradients_are_those_of_the_network_written_out(rule: Rule, oracle: Callable[..., Params]):
    model, x, y = small(), 2 * torch.rand(5, 3, 2, 8, 8).double(), torch.tensor([2, 0, 3])
    (*_, update) = learn(rule, model, x, y)
    assert all(0.05 < share < 0.95 for share in update.rates.values()), "every layer has a part in it"
    expected = oracle(written_out(model), parameters(model), x, y, F.cross_entropy)
    found = collected(model)
    assert all(grad.any() for grad in found.values())
    assert_agree(found, {name: expected[name] for name in found}, 1e-10)


def test_all_synapses_but_the_first_see_spikes():
    x = torch.zeros(1, 1, 3, 8, 8)
    wiring = Network(StreamResNet18((3, 8, 8), 4, lif, width=1 / 5)).wiring(x)
    assert sorted(wiring.synapses) == sorted(SYNAPSES)
    assert [name for name, synapse in wiring.synapses.items() if synapse.reads_input] == ["stem"]
    assert [name for name, synapse in wiring.synapses.items() if synapse.reads_currents] == []
    assert [name for name, synapse in wiring.synapses.items() if not synapse.receivers] == ["readout"]
    # What enters the stream reaches every neuron up to the next shortcut.
    entries = {f"blocks.{block}.enter.1" for block in (0, 1, 2)}
    assert set(wiring.synapses["stem"].receivers) == entries
    assert set(wiring.synapses["blocks.6.shortcut"].receivers) == {"blocks.7.enter.1", "leave.1"}
