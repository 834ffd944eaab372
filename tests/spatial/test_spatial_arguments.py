"""What is refused, with a message that says what to do instead."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OPZO as PseudoZerothOrder
from spikewright.rules import OTTT, SLTT, check
from spikewright.spatial import BP, DFA, DKP, FA, OPZO, ZO, Local, SignSymmetric
from tests.nets import NETS, sample
from tests.rules.support import CE, gradients, learn

REFUSED: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (OPZO, dict(alpha=0), r"alpha=0\): without noise no feedback can be estimated.*number, above 0"),
    (ZO, dict(alpha=-0.1), r"alpha=-0.1"),
    (ZO, dict(alpha=float("nan")), r"alpha=nan"),
    (PseudoZerothOrder, dict(alpha=0.0), r"alpha=0.0"),
    (
        OPZO,
        dict(distribution="gausian"),
        r"distribution='gausian'\) is unknown. Did you mean 'gaussian'\? Known: gaussian, rademacher, ",
    ),
    (ZO, dict(distribution="normal"), r"distribution='normal'\) is unknown.*Known: gaussian, rademacher, sphere"),
    (ZO, dict(position="behind"), r"position='behind'\) is unknown.*Known: post, pre"),
    (OPZO, dict(position="prae"), r"position='prae'\) is unknown. Did you mean 'pre'"),
    (OPZO, dict(momentum=-0.1), r"OPZO\(momentum=-0.1\).*lies in \[0, 1\]"),
    (OPZO, dict(momentum=1.1), r"OPZO\(momentum=1.1\).*lies in \[0, 1\]"),
    (OPZO, dict(momentum=float("nan")), r"OPZO\(momentum=nan\)"),
    (OPZO, dict(init="DFA"), r"OPZO\(init='DFA'\) is unknown.*Known: dfa, zero"),
    (OPZO, dict(route="penultimat"), r"OPZO\(route='penultimat'\) is unknown. Did you mean 'penultimate'"),
    (DFA, dict(scale=0), r"DFA\(scale=0\): errors would vanish.*number, above 0"),
    (DFA, dict(scale=-1.0), r"DFA\(scale=-1.0\)"),
    (DKP, dict(lr=-0.1), r"DKP\(lr=-0.1\): the rate is not negative"),
    (DKP, dict(decay=1.0), r"DKP\(decay=1.0\): .* in \[0, 1\)"),
    (DKP, dict(decay=-0.1), r"DKP\(decay=-0.1\)"),
    (DKP, dict(scale=0), r"scale=0"),
    (Local, dict(weight=0), r"Local\(weight=0\): .*number, above 0"),
    (Local, dict(pool=0), r"Local\(pool=0\)"),
    (Local, dict(below="all"), r"Local\(below='all'\) is unknown.*Known: both, only"),
]


@pytest.mark.parametrize("make, given, message", REFUSED, ids=[f"{c.__name__}-{given}" for c, given, _ in REFUSED])
def test_arguments_out_of_range_are_refused(make: Callable[..., object], given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**given)


def test_the_ends_of_ranges_are_within() -> None:
    made = [OPZO(momentum=0), OPZO(momentum=1, init="dfa"), DKP(lr=0, decay=0), Local(pool=1), OPZO(alpha=1e-9)]
    assert [type(way) for way in made] == [OPZO, OPZO, DKP, Local, OPZO]


def test_readouts_that_no_optimizer_knows_of_are_refused() -> None:
    x, y = sample("mlp", 0)
    for spatial in (BP(), DFA(), OPZO()):
        rule, module = OTTT(spatial=spatial, local=Local()), NETS["mlp"](0)
        advice = r"rule.prepare\(net, x\), and give the optimizer \[\*net.parameters\(\), \*rule.parameters\(\)\]"
        with pytest.raises(ConfigError, match=advice):
            learn(rule, module, x, y)
        rule.prepare(Network(module), x)
        learn(rule, module, x, y)
        assert all(p.grad is not None for p in rule.parameters())


@pytest.mark.parametrize("kind", [OTTT, SLTT])
@pytest.mark.parametrize("spatial", [BP, FA, SignSymmetric, ZO])
def test_an_intermediate_layer_needs_matrices(spatial: type[BP | FA | ZO], kind: type[OTTT | SLTT]) -> None:
    message = rf"{kind.__name__}\(local=.*through matrices, but {spatial.__name__} has none.*DFA, DKP, OPZO"
    with pytest.raises(ConfigError, match=message):
        kind(spatial=spatial(), local=Local(intermediate="middle"))
    kind(spatial=spatial(), local=Local())


def test_an_intermediate_layer_has_to_be_there() -> None:
    net, (x, y) = Network(NETS["residual"](0)), sample("residual", 0)
    rule = OTTT(spatial=DFA(), local=Local(intermediate="inside"))
    message = r"Local\(intermediate='inside'\): the network has no such neurons. Known: first, inner, last"
    with pytest.raises(ConfigError, match=message):
        rule.prepare(net, x)
    with pytest.raises(ConfigError, match=message):
        check(rule, net, CE, x, y)


def test_readouts_make_vectors_and_no_maps() -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(2, 6, 3), LIF(), nn.Conv2d(6, 4, 3)).double()
    x, y = 4 * torch.rand(2, 3, 2, 6, 6), torch.zeros(3, 2, 2, dtype=torch.int64)
    rule = OTTT(spatial=DFA(), local=Local())
    with pytest.raises(IncompatibleRule, match=r"3 axes of the output, \[4, 2, 2\].*one vector per sample and step"):
        check(rule, Network(module), CE, x, y)
    learn(OTTT(spatial=DFA()), module, x, y)
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


class Unknown(torch.autograd.Function):
    """The identity, of which nobody knows how it acts on what is beside a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Opaque(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Unknown.apply(x)


def test_an_operation_that_cannot_pass_on_noise_is_named_with_a_way_out() -> None:
    first, spikes, *rest = NETS["mlp"](0).children()
    module, (x, y) = nn.Sequential(first, spikes, Opaque(), *rest), sample("mlp", 0)
    with pytest.raises(IncompatibleRule, match=r"'2' \(Opaque\) cannot pass on the noise.*Use position='pre'"):
        gradients(OTTT(spatial=OPZO()), module, x, y)
    assert all(grad.any() for grad in gradients(OTTT(spatial=OPZO(position="pre")), module, x, y).values())


def test_zeroth_order_needs_losses_of_samples() -> None:
    """A sum of them is as good as their mean, and as many times as large; a criterion that couples samples has none."""
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    mean, total = (
        gradients(OTTT(spatial=ZO()), module, x, y, PerStep(nn.CrossEntropyLoss(reduction=how)))
        for how in ("mean", "sum")
    )
    torch.testing.assert_close(total, {name: len(y) * grad for name, grad in mean.items()})
    with pytest.raises(IncompatibleRule, match="neither the mean nor the sum"):
        learn(OTTT(spatial=ZO()), module, x, y, PerStep(lambda o, y: (o - o.mean(0)).square().mean()))


def test_noise_does_not_depend_on_the_layout_of_memory() -> None:
    x, noise = torch.zeros(2, 3, 4, 5), OPZO().noise
    assert noise is not None
    same = noise.draw(x.to(memory_format=torch.channels_last), "a", 1, 0)
    assert torch.equal(same, noise.draw(x, "a", 1, 0))
