"""A network of another library, with neurons in the place of its activations."""

import pytest
import torch

import spikewright
from spikewright.rules import OTTT, SLTT
from tests.rules.support import CE

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("rule", [SLTT(), OTTT()], ids=repr)
def test_a_residual_net(rule: SLTT) -> None:
    module = timm.create_model("resnet18", act_layer=spikewright.LIF, num_classes=4, in_chans=1).double()
    net = spikewright.Network(module)
    updates = list(rule.updates(net, torch.rand(3, 2, 1, 32, 32), torch.tensor([0, 3]), CE))
    assert len(updates[-1].rates) == 17
    assert updates[-1].output.shape == (3, 2, 4)
