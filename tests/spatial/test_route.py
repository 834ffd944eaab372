"""Errors that start from what arrives at the readout: its own weights carry them there, and matrices from there on."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT, SLTT, OnlineRule, check
from spikewright.spatial import DFA, DKP, OPZO
from tests.catalogue import last_layer
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree, case
from tests.oracles.draw import WEIGHTS
from tests.rules.support import CE, gradients
from tests.spatial.support import Errors, Way, taught, watched

LAST = {"mlp": "3", "deep": "5", "conv": "4", "residual": "last"}
"""The neurons in front of the readout."""


def ready(way: Way, name: str) -> Way:
    OTTT(spatial=way).prepare(Network(NETS[name](0)), sample(name, 0)[0])
    return way


def by_hand(way: DFA, name: str) -> Errors:
    """What drawn matrices make of the error at the input of the readout."""
    readout = case(name)[1][f"{list(WEIGHTS[name])[-1]}.weight"]
    matrices = {key.split()[1]: way.matrices[key].clone() for key in way.matrices}
    assert LAST[name] not in matrices and all(matrix.shape[1] == readout.shape[1] for matrix in matrices.values())

    def errors(spikes: dict[str, Tensor], error: Tensor) -> dict[str, Tensor]:
        return {site: (error @ readout @ matrix.T).view_as(spikes[site]) for site, matrix in matrices.items()}

    return errors


@pytest.mark.parametrize("kind", [OTTT, SLTT])
@pytest.mark.parametrize("name", LAST)
def test_the_last_layer_learns_by_backpropagation_and_those_in_front_directly(
    name: str, kind: Callable[..., OnlineRule]
) -> None:
    module, (x, y) = NETS[name](0), sample(name, 0)
    errors = by_hand(ready(DFA(route="penultimate"), name), name)
    expected = taught(name, errors, kind is OTTT, whole=frozenset({LAST[name]}))
    for chunk in (1, 6):
        found = gradients(kind(spatial=DFA(route="penultimate"), chunk=chunk), module, x, y)
        assert_agree(found, expected, 1e-12)
    whole, last = gradients(kind(), module, x, y), last_layer(name)
    assert_agree({key: expected[key] for key in last}, {key: whole[key] for key in last}, 1e-12)


@pytest.mark.parametrize("make", [lambda **kw: OPZO(0.6, 0.4, **kw), lambda **kw: DKP(1.0, 0.1, **kw)])
def test_matrices_learn_from_what_arrives_there(
    make: Callable[..., OPZO | DKP], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, (x, y) = NETS["deep"](0), sample("deep", 0)
    way = ready(make(route="penultimate"), "deep")
    matrix = way.matrices["penultimate 1"].clone()
    seen = watched(way, monkeypatch)
    gradients(OTTT(spatial=way, chunk=6), module, x, y)
    (chunk,) = seen
    (target,) = chunk.targets.values()
    assert target.reaches == chunk.activity.keys() == {"1", "3"}
    assert set(target.vector.unique().tolist()) == {0.0, 1.0}  # spikes of neurons that nothing perturbs
    output = module.get_submodule("6")(target.vector)
    expected = (output.softmax(2) - nn.functional.one_hot(y, 4)) / (len(x) * len(y)) @ module.get_submodule("6").weight
    torch.testing.assert_close(target.error, expected.detach(), rtol=1e-12, atol=1e-12)
    for step, (vector, error) in enumerate(zip(target.vector, target.error)):
        if isinstance(way, OPZO):
            matrix = 0.6 * matrix + 0.4 * chunk.noise["1"][step].T @ vector / (len(y) * 0.4**2)  # noise is 0.4 z
        else:
            matrix = 0.9 * matrix - chunk.activity["1"][step].T @ error
    torch.testing.assert_close(way.matrices["penultimate 1"], matrix)


def test_it_needs_one_linear_readout_behind_neurons() -> None:
    x, y = sample("mlp", 0)
    net = Network(nn.Sequential(nn.Linear(8, 12), LIF(), nn.Linear(12, 4), LIF()).double())
    with pytest.raises(IncompatibleRule, match=r"the network has 0 readouts.*Use route='output'"):
        check(OTTT(spatial=DFA(route="penultimate")), net, CE, x, y)


def test_a_frozen_last_layer_stops_nothing() -> None:
    module, (x, y) = NETS["deep"](0), sample("deep", 0)
    expected = gradients(OTTT(spatial=DFA(route="penultimate")), module, x, y)
    module.get_submodule("4").requires_grad_(False)
    found = gradients(OTTT(spatial=DFA(route="penultimate")), module, x, y)
    others = [name for name in expected if not name.startswith("4.")]
    assert_agree({name: found[name] for name in others}, {name: expected[name] for name in others})
