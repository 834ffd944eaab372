"""Every rule on a convolutional net with feedback (VGG-F), on recurrent layers, and on synapses in a row."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.layers import Feedback, Recurrent
from spikewright.layers.feedback import First
from tests.catalogue import RULES, Entry
from tests.nets import lif, sample
from tests.oracles.compare import assert_agree
from tests.oracles.draw import draw
from tests.oracles.machine import Machine
from tests.rules.support import collected, learn, names, prepared, unless_refused


def vgg_f(x: Tensor, net: Machine) -> Tensor:
    """Two convolutions, the second of which reports back to the first through an upsampling convolution."""
    current, sent = net.syn("0", x, post="2", padding=1), net.last("5")
    if sent is not None:
        wide = F.interpolate(sent, scale_factor=2)
        current = current + net.syn("1.transform.1", wide, pre="5", post="2", padding=1)
    s = net.lif("2", current, tau=2.0)
    s = net.lif("5", net.syn("4", F.avg_pool2d(s, 2), pre="2", post="5", padding=1), tau=3.0)
    return net.syn("7", s.flatten(1), pre="5")


def vgg_f_module() -> nn.Module:
    source = lif(3.0)
    back = Feedback(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(5, 4, 3, padding=1)), source)
    first = [nn.Conv2d(2, 4, 3, padding=1), back, lif(), nn.AvgPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(4, 5, 3, padding=1), source, nn.Flatten(), nn.Linear(80, 4))


def recurrent(x: Tensor, net: Machine, bias: bool = False) -> Tensor:
    """The first neurons are fed their own spikes; with `bias`, zeros at the first step."""
    current, sent = net.syn("0", x, post="1.neuron"), net.last("1.neuron")
    if sent is None and bias:
        sent = torch.zeros_like(current).detach()
    if sent is not None:
        current = current + net.syn("1.transform", sent, pre="1.neuron", post="1.neuron")
    s = net.lif("1.neuron", current, tau=1.5)
    s = net.lif("3", net.syn("2", s, pre="1.neuron", post="3"), tau=3.0)
    return net.syn("4", s, pre="3")


def recurrent_module(first: First) -> nn.Module:
    layer = Recurrent(lif(1.5), nn.Linear(12, 12), first)
    return nn.Sequential(nn.Linear(8, 12), layer, nn.Linear(12, 10), lif(3.0), nn.Linear(10, 4))


def in_a_row(x: Tensor, net: Machine) -> Tensor:
    """Two synapses with nothing between them: to a trace, the second reads no spikes."""
    s = net.lif("1", net.syn("0", x, post="1"), tau=1.5)
    s = net.lif("4", net.syn("3", net.syn("2", s, pre="1", post="4"), post="4"), tau=3.0)
    return net.syn("5", s, pre="4")


def in_a_row_module() -> nn.Module:
    first = [nn.Linear(8, 12), lif(1.5), nn.Linear(12, 6), nn.Linear(6, 10)]
    return nn.Sequential(*first, lif(3.0), nn.Linear(10, 4))


Further = tuple[Callable[[Tensor, Machine], Tensor], Callable[[], nn.Module], str]
NETS: dict[str, Further] = {
    "vgg_f": (vgg_f, vgg_f_module, "conv"),
    "recurrent": (recurrent, partial(recurrent_module, "nothing"), "mlp"),
    "recurrent, bias": (partial(recurrent, bias=True), partial(recurrent_module, "bias"), "mlp"),
    "in a row": (in_a_row, in_a_row_module, "mlp"),
}
"""Program, module, and the network of `tests/nets.py` whose data it takes."""


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("entry", RULES, ids=names())
def test_equals_its_explicit_program(entry: Entry, name: str) -> None:
    if name != "in a row":
        unless_refused(entry, "feedback")
    program, build, data = NETS[name]
    module, (x, y) = build().double(), sample(data, 0)
    params = draw({n.removesuffix(".weight"): tuple(p.shape) for n, p in module.named_parameters() if p.dim() > 1}, 0)
    if "1.transform.weight" in params:
        params["1.transform.weight"] *= 0.5  # so that solvers that iterate get to the last digits
    module.load_state_dict(params)
    (*_, update) = learn(entry.make(), module, x, y)
    assert all(0.01 < rate < 0.99 for rate in update.rates.values())
    rule = prepared(entry, module, x)
    assert_agree(collected(module), entry.oracle(rule, (program, params, x, y, F.cross_entropy)), 1e-10)
