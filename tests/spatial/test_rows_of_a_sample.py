"""Networks that fold rows of a sample into the batch learn as those that keep them beside each other."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OPZO as OPZORule
from spikewright.rules import OTTT, SLTT, OnlineRule, Rule
from spikewright.spatial import BP, DFA, DKP, FA, OPZO, ZO, Local, SignSymmetric, Spatial
from spikewright.surrogate import Sigmoid
from tests.core.support import Lambda
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Params
from tests.rules.support import collected, learn

ROWS, SIZE = 3, 6
STEPS, BATCH = 4, 2


def network(forward: Callable[[Any, Tensor], Tensor], more: Callable[[], dict[str, nn.Module]] = dict) -> nn.Module:
    """Layers a and b of rows, a readout of rows and one of whole samples, and neurons."""
    torch.manual_seed(0)
    neurons = {name: LIF(surrogate=Sigmoid(4.0)) for name in ("n", "m")}
    rows = {"a": nn.Linear(SIZE, 8), "b": nn.Linear(8, 7), "out": nn.Linear(7, 4), "whole": nn.Linear(ROWS * 8, 7)}
    return Lambda(forward, **rows, **neurons, **more())


def folded(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[2:])


def unfolded(x: Tensor) -> Tensor:
    return x.unflatten(0, (-1, ROWS))


def maps() -> dict[str, nn.Module]:
    return {"conv": nn.Conv1d(1, 2, 3), "last": nn.Linear(ROWS * 2 * 4, 4)}


def conv_beside(s: Any, x: Tensor) -> Tensor:
    currents = torch.stack([s.conv(x[:, row].unsqueeze(1)) for row in range(ROWS)], 1)
    return s.last(s.n(currents).flatten(1))


Pair = tuple[Callable[[], nn.Module], Callable[[], nn.Module]]
PAIRS: dict[str, Pair] = {
    "all of it": (
        lambda: network(lambda s, x: unfolded(s.out(s.m(s.b(s.n(s.a(folded(x))))))).mean(1)),
        lambda: network(lambda s, x: s.out(s.m(s.b(s.n(s.a(x))))).mean(1)),
    ),
    "one layer": (
        lambda: network(lambda s, x: s.out(s.m(s.whole(unfolded(s.n(s.a(folded(x)))).flatten(1))))),
        lambda: network(lambda s, x: s.out(s.m(s.whole(s.n(s.a(x)).flatten(1))))),
    ),
    "neurons alone": (
        lambda: network(lambda s, x: s.out(s.m(s.whole(unfolded(s.n(folded(s.a(x)))).flatten(1))))),
        lambda: network(lambda s, x: s.out(s.m(s.whole(s.n(s.a(x)).flatten(1))))),
    ),
    "the last neurons": (
        lambda: network(lambda s, x: unfolded(s.m(s.b(s.n(s.a(folded(x)))))).mean(1)[:, :4]),
        lambda: network(lambda s, x: s.m(s.b(s.n(s.a(x)))).mean(1)[:, :4]),
    ),
    "the same neurons with and without": (
        lambda: network(lambda s, x: s.out(s.n(s.whole(unfolded(s.n(s.a(folded(x)))).flatten(1))))),
        lambda: network(lambda s, x: s.out(s.n(s.whole(s.n(s.a(x)).flatten(1))))),
    ),
    "rows of rows": (
        lambda: network(lambda s, x: s.out(s.m(s.b(s.n(s.a(x.repeat(1, 2, 1).reshape(-1, SIZE))))))
                        .unflatten(0, (-1, 2 * ROWS)).mean(1)),
        lambda: network(lambda s, x: s.out(s.m(s.b(s.n(s.a(x.repeat(1, 2, 1)))))).mean(1)),
    ),
}  # fmt: skip
MAPS: Pair = (
    lambda: network(lambda s, x: s.last(unfolded(s.n(s.conv(folded(x).unsqueeze(1)))).flatten(1)), maps),
    lambda: network(conv_beside, maps),
)
WAYS: dict[str, Callable[[], Spatial]] = {
    "BP": BP,
    "SignSymmetric": SignSymmetric,
    "FA": FA,
    "DFA": DFA,
    "DKP": DKP,
    "ZO": lambda: ZO(alpha=0.5),
    "ZO, pre": lambda: ZO(alpha=0.5, position="pre"),
    "OPZO": lambda: OPZO(alpha=0.5, momentum=0.8),
    "OPZO, pre": lambda: OPZO(alpha=0.5, momentum=0.8, position="pre"),
    "OPZO, sphere": lambda: OPZO(alpha=0.5, momentum=0.8, distribution="sphere", center_output=True),
}
LOCALS: dict[str, Callable[[], Local | None]] = {"": lambda: None, "local": Local, "local, pool": lambda: Local(0.5, 2)}


def data(seed: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(STEPS, BATCH, ROWS, SIZE, generator=source)
    return x, torch.randint(0, 4, (BATCH,), generator=source)


def learned(rule: Rule, module: nn.Module) -> tuple[Params, Params, list[Tensor]]:
    """Gradients of two batches, what the rule holds and has learned of its own, and the outputs."""
    torch.manual_seed(7)
    rule.prepare(Network(module), data(0)[0])
    updates = [u for seed in (0, 1) for u in learn(rule, module, *data(seed))]
    own = {n: b.double() for n, b in rule.named_buffers()}
    own |= {n: p.grad for n, p in rule.named_parameters() if p.grad is not None}
    return collected(module), own, [u.output for u in updates]


def assert_same(rule: Rule, pair: Pair) -> None:
    results = [learned(deepcopy(rule), make()) for make in pair]
    for one, other in zip(*results, strict=True):
        if isinstance(one, dict):
            assert_agree(one, other, 1e-11)
        else:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert sum(bool(grad.any()) for grad in results[0][0].values()) >= 2


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_learns_as_without_folding(way: str, pair: str) -> None:
    assert_same(OTTT(spatial=WAYS[way](), chunk=2), PAIRS[pair])


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("local", ["local", "local, pool"])
@pytest.mark.parametrize("way", ["BP", "SignSymmetric", "DFA", "DKP", "OPZO", "OPZO, pre"])
def test_so_it_does_with_readouts_of_layers(way: str, local: str, pair: str) -> None:
    assert_same(SLTT(spatial=WAYS[way](), local=LOCALS[local]()), PAIRS[pair])


@pytest.mark.parametrize("below", ["both", "only"])
def test_so_do_intermediate_errors(below: Any) -> None:
    rule = OTTT(spatial=DFA(), local=Local(intermediate="m", below=below))
    assert_same(rule, PAIRS["all of it"])


@pytest.mark.parametrize("local", LOCALS)
@pytest.mark.parametrize("way", ["BP", "DFA", "DKP", "ZO", "OPZO"])
def test_so_do_maps(way: str, local: str) -> None:
    assert_same(OTTT(spatial=WAYS[way](), local=LOCALS[local]()), MAPS)


@pytest.mark.parametrize("kind", [OPZORule, lambda: OPZORule(online=True, local=Local())])
def test_the_rule_needs_no_argument(kind: Callable[[], OnlineRule]) -> None:
    assert_same(kind(), PAIRS["all of it"])


@pytest.mark.parametrize("pair", ["one layer", "neurons alone"])
@pytest.mark.parametrize("way", [DFA, DKP, OPZO])
def test_the_route_over_what_arrives_at_a_readout(way: Callable[..., Spatial], pair: str) -> None:
    assert_same(OTTT(spatial=way(route="penultimate")), PAIRS[pair])


@pytest.mark.parametrize("which", [0, 1])
def test_no_route_leads_over_a_readout_of_rows(which: int) -> None:
    module = PAIRS["all of it"][which]()
    with pytest.raises(IncompatibleRule, match=r"the readout 'out', but that sees several vectors of 7 .*'output'"):
        learn(OTTT(spatial=DFA(route="penultimate")), module, *data(0))
    assert all(p.grad is None for p in module.parameters())


def test_a_readout_of_a_layer_refuses_more_sides_than_it_can_average() -> None:
    deep = lambda: {"deep": nn.Conv3d(1, 2, 1), "end": nn.Linear(ROWS * 12, 4)}  # noqa: E731
    module = network(lambda s, x: s.end(s.n(s.deep(folded(x).reshape(-1, 1, 2, 3, 1))).reshape(-1, ROWS * 12)), deep)
    rule = OTTT(local=Local())
    with pytest.raises(IncompatibleRule, match=r"'n' .* shape \[3, 2, 2, 3, 1\]"):
        rule.prepare(Network(module), data(0)[0])
    learn(OTTT(spatial=DFA()), module, *data(0))


@pytest.mark.parametrize("way", ["DFA", "DKP", "OPZO"])
def test_a_matrix_has_a_row_for_every_neuron_of_a_sample(way: str) -> None:
    spatial: Any = WAYS[way]()
    OTTT(spatial=spatial).prepare(Network(PAIRS["one layer"][0]()), data(0)[0])
    assert {key: list(spatial.matrices[key].shape) for key in spatial.matrices} == {
        "output n": [ROWS * 8, 4],
        "output m": [7, 4],
    }
