"""Intermediate global learning: a readout on the way teaches the layers in front of it directly."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.network import Network
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import DFA, OPZO, Local
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import gradients
from tests.spatial.support import Errors, taught, watched, with_readouts

# Neurons of `deep` are called 1, 3 and 5.
PLACES = [
    ("middle", "both", {"output 1", "output 3", "output 5", "3 1"}),
    ("middle", "only", {"output 3", "output 5", "3 1"}),
    ("5", "both", {"output 1", "output 3", "output 5", "5 1", "5 3"}),
    ("5", "only", {"output 5", "5 1", "5 3"}),
    ("1", "both", {"output 1", "output 3", "output 5"}),
    ("1", "only", {"output 1", "output 3", "output 5"}),
]


def by_hand(way: DFA, local: Local, keys: set[str], y: Tensor, steps: int) -> Errors:
    """All of the three errors a layer may get: that of the output, the intermediate one, and that of its readout."""
    matrices = {key: way.matrices[key].clone() for key in keys}

    def errors(spikes: dict[str, Tensor], error: Tensor) -> dict[str, Tensor]:
        found, sent = {}, {"output": error}
        for site, s in spikes.items():
            readout = local.readouts[site]
            assert isinstance(readout, nn.Linear)
            sent[site] = ((readout(s).softmax(1) - F.one_hot(y, 4)) / (steps * len(y))).detach()
            found[site] = local.weight * sent[site] @ readout.weight.detach()
        for key, matrix in matrices.items():
            name, site = key.split()
            found[site] = found[site] + sent[name] @ matrix.T
        return found

    return errors


@pytest.mark.parametrize("kind", [OTTT, SLTT])
@pytest.mark.parametrize("place, below, keys", PLACES)
def test_its_error_reaches_the_layers_in_front_and_no_others(
    place: str, below: str, keys: set[str], kind: type[OnlineRule]
) -> None:
    module, (x, y), way = NETS["deep"](0), sample("deep", 0), DFA()
    rule, local = with_readouts(kind, way, module, x, intermediate=place, below=below, weight=0.3)
    assert set(way.matrices) == keys
    expected = taught("deep", by_hand(way, local, keys, y, len(x)), traced=kind is OTTT)
    assert_agree(gradients(rule, module, x, y), expected, 1e-12)


@pytest.mark.parametrize("name, site", [("mlp", "1"), ("deep", "3"), ("residual", "inner")])
def test_the_middle_is_the_last_of_the_first_half(name: str, site: str) -> None:
    assert Local(intermediate="middle").middle(Network(NETS[name](0)).wiring(sample(name, 0)[0])) == site


@pytest.mark.parametrize("below", ["both", "only"])
def test_noise_teaches_how_the_intermediate_readout_depends_on_what_is_in_front(
    below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, (x, y), momentum, alpha = NETS["deep"](0), sample("deep", 0), 0.7, 0.5
    way = OPZO(momentum, alpha, center_output=True)
    rule, local = with_readouts(OTTT, way, module, x, intermediate="3", below=below)
    rule.chunk = 6
    seen = watched(way, monkeypatch)
    gradients(rule, module, x, y)
    (chunk,) = seen
    vector = chunk.targets["3"].vector
    torch.testing.assert_close(vector, local.readouts["3"](chunk.activity["3"]).detach())
    matrix, mean = torch.zeros(12, 4), torch.zeros(4)
    for z, said in zip(chunk.noise["1"], vector):
        matrix = momentum * matrix + (1 - momentum) * z.T @ (said - mean) / (len(y) * alpha**2)  # noise is alpha z
        mean = 0.99 * mean + 0.01 * said.mean(0)
    torch.testing.assert_close(way.matrices["3 1"], matrix)
    torch.testing.assert_close(way.means["3"], mean)
    assert set(way.means) == {"output", "3"}
    assert ("output 1" in way.matrices) == (below == "both")


def test_both_chunkings_of_all_of_it_agree() -> None:
    found = []
    for chunk in (1, 6):
        module, (x, y) = NETS["deep"](0), sample("deep", 0)
        way = OPZO(momentum=0.5, center_output=True)
        rule, _ = with_readouts(OTTT, way, module, x, intermediate="middle", below="only")
        rule.chunk = chunk
        found.append(gradients(rule, module, x, y))
    assert all(grad.any() for grad in found[0].values())
    assert_agree(found[1], found[0])
