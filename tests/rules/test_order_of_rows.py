"""Layers whose rows are not those of steps and samples in order: rules that look at layers learn step by step there."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import IncompatibleRule
from spikewright.rules import BPTT, GPM, HLOP, OPZO, OTTT, SLTT, Rule
from spikewright.spatial import DFA, FA
from tests.core.support import Lambda
from tests.oracles.compare import assert_agree
from tests.rules.support import CE, gradients

SAMPLES, TOKENS = 3, 5


def parts(width: int) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layers = {"a": nn.Linear(6, 8), "b": nn.Linear(8, 8), "out": nn.Linear(width, 3)}
    return {**layers, "n": sw.LIF(threshold=0.4), "m": sw.LIF(threshold=0.3)}


def tokens_first(s: Any, x: Tensor) -> Tensor:
    spikes = s.n(s.a(x))
    turned = s.b(spikes.transpose(0, 1).flatten(0, 1)).unflatten(0, (TOKENS, -1)).transpose(0, 1)
    return s.out(s.m(turned).mean(1))


def side_by_side(s: Any, x: Tensor) -> Tensor:
    one, other = s.b(s.n(s.a(torch.cat([x, 0.5 * x.flip(-1)], -1)[..., :6])).repeat(2, 1)).chunk(2)
    return s.out(torch.cat([s.m(one), 0.5 * s.m(other)], 1))


def reversed_rows(s: Any, x: Tensor) -> Tensor:
    return s.out(s.m(s.b(s.n(s.a(x)).flip(0)).flip(0)))


NETS: dict[str, tuple[Callable[..., Tensor], int, tuple[int, ...]]] = {
    "tokens first": (tokens_first, 8, (TOKENS, 6)),
    "side by side": (side_by_side, 16, (6,)),
    "reversed": (reversed_rows, 8, (6,)),
}


def drawn(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    forward, width, shape = NETS[name]
    x = 1.5 * torch.randn(6, SAMPLES, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Lambda(forward, **parts(width)).double(), x, torch.tensor([0, 1, 2])


RULES: list[Callable[..., Rule]] = [
    OTTT,
    partial(OTTT, reference=True),
    lambda chunk=1: OTTT(spatial=FA(), chunk=chunk),
    lambda chunk=1: OTTT(spatial=DFA(), chunk=chunk),
    partial(OPZO, alpha=0.5),
    SLTT,
    BPTT,
]


@pytest.mark.parametrize("name", NETS)
def test_they_are_found(name: str) -> None:
    module, x, _ = drawn(name)
    assert sw.Network(module).wiring(x).disordered == {"b"}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("make", RULES, ids=lambda make: repr(make()))
def test_every_chunk_gives_the_same(name: str, make: Callable[..., Rule]) -> None:
    module, x, y = drawn(name)
    expected = gradients(make(chunk=1), module, x, y, CE)
    for chunk in (2, 3, 6):
        assert_agree(gradients(make(chunk=chunk), module, x, y, CE), expected)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_promises_hold(name: str, chunk: int) -> None:
    module, x, y = drawn(name)
    found = sw.certify(sw.Network(module), OTTT(chunk=chunk), x, y, CE)
    assert found.ok and "b.weight" in {row.site for row in found.rows if row.exact}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("make", [lambda: GPM(BPTT()), lambda: HLOP(BPTT())], ids=["gpm", "hlop"])
def test_directions_that_cannot_be_read_are_refused(name: str, make: Callable[[], Rule]) -> None:
    module, x, y = drawn(name)
    with pytest.raises(IncompatibleRule, match="rows that 'b' is given are not those of steps and samples in order"):
        gradients(make(), module, x, y, CE)
