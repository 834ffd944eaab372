"""Joint norms behind joint norms, with no neurons in between, against two forms of their definition."""

import gc
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.layers import JointBatchNorm1d
from spikewright.losses import OnRate
from spikewright.metrics import SavedBytes
from spikewright.network import Network
from spikewright.network.run import Run
from spikewright.neurons.dsr import DSRIF
from spikewright.rules import DSR, IDE, SPIDE
from spikewright.rules.rates.norms import Joint, SecondPass
from spikewright.rules.rates.stacked_norms import BetweenNorms
from tests.core.support import Lambda
from tests.oracles.compare import relative
from tests.oracles.shifted import Shifted, slopes
from tests.rules.support import collected, learn
from tests.rules.test_dsr import assert_near
from tests.rules.test_rate_norms import AllAtOnce, Masked, buffers, by_steps_in_the_batch, filled

Make = Callable[[], nn.Module]
STEPS, BATCH = 9, 5
integrate = partial(DSRIF, 1.2345, 0.4)
rows = partial(AllAtOnce, 1.2345, STEPS)
shifted = partial(Shifted, 1.2345, 0.4, STEPS)


def dense(middle: Callable[[int], list[nn.Module]], make: Make) -> nn.Module:
    """Some layers of one width, neurons in front and behind."""
    return nn.Sequential(nn.Linear(8, 6), make(), *middle(6), make(), nn.Linear(6, 4))


def pair(n: int) -> list[nn.Module]:
    return [nn.Linear(n, 3), nn.BatchNorm1d(3), nn.Linear(3, n), nn.BatchNorm1d(n)]


def three(n: int) -> list[nn.Module]:
    return [*pair(n), nn.Linear(n, n), nn.BatchNorm1d(n)]


def at_once(n: int) -> list[nn.Module]:
    """Norms without any layer between them, one of them twice in a row."""
    norm = nn.BatchNorm1d(n)
    return [nn.Linear(n, n), nn.BatchNorm1d(n), norm, norm]


def bare(n: int) -> list[nn.Module]:
    """No scale and shift, and other momenta."""
    first, second = nn.BatchNorm1d(3, affine=False, momentum=0.3), nn.BatchNorm1d(n, affine=False, momentum=None)
    return [nn.Linear(n, 3, bias=False), first, nn.Linear(3, n), second]


def frozen(n: int) -> list[nn.Module]:
    """A norm of running statistics between two others."""
    layers = three(n)
    layers[3].eval()
    return layers


def added(n: int) -> list[nn.Module]:
    """A norm behind the sum of two norms, and of what enters them."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.left(m.one(x)).add_(m.right(m.other(x))) + x

    parts: dict[str, nn.Module] = {"one": nn.Linear(n, n), "other": nn.Linear(n, n)}
    both = Lambda(forward, **parts, left=nn.BatchNorm1d(n), right=nn.BatchNorm1d(n))
    return [nn.Linear(n, n), both, nn.BatchNorm1d(n)]


def joined(n: int) -> list[nn.Module]:
    """A norm of channels of two norms, in another order, and of spikes."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.cat([m.one(x)[:, ::2], x[:, :2], m.other(x)[:, :1]], 1)

    one, other = (nn.Sequential(nn.Linear(n, n), nn.BatchNorm1d(n)) for _ in range(2))
    return [Lambda(forward, one=one, other=other), nn.BatchNorm1d(n)]


def residual(make: Make) -> nn.Module:
    """Blocks of three norms around two neuron layers, added to currents that all norms behind read."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = x + m.second(m.last(m.middle(m.one(m.first(m.before(x))))))
        y += 1  # in place
        return y

    def block() -> nn.Module:
        parts: dict[str, nn.Module] = {"before": nn.Sequential(nn.BatchNorm2d(4), make())}
        parts |= {"first": nn.Conv2d(4, 6, 1), "one": nn.BatchNorm2d(6), "middle": make()}
        return Lambda(forward, **parts, last=nn.Conv2d(6, 4, 3, padding=1), second=nn.BatchNorm2d(4))

    stem = [nn.Conv2d(2, 4, 3, padding=1), make(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)]
    last = [nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), make(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 4)]
    return nn.Sequential(*stem, block(), block(), *last)


def inverted(make: Make) -> nn.Module:
    """A block of MobileNetV2: wide, by channel and strided, narrow; behind another norm, and to the output."""
    wide = [nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), make()]
    by_channel = [nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.AvgPool2d(3)]
    stem = [nn.Conv2d(2, 3, 3, padding=1), make(), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)]
    return nn.Sequential(*stem, *wide, *by_channel, nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten())


NETS: dict[str, Callable[[Make], nn.Module]] = {
    **{form.__name__: partial(dense, form) for form in (pair, three, at_once, bare, frozen, added, joined)},
    "residual": residual,
    "inverted": inverted,
}
every_net = pytest.mark.parametrize("name", NETS)


def data(name: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.rand(STEPS, BATCH, *((2, 6, 6) if name in ("residual", "inverted") else (8,)), generator=source)
    return x, torch.randint(4, (BATCH,), generator=source)


def training(build: Callable[[Make], nn.Module], make: Make = integrate, seed: int = 0) -> nn.Module:
    return filled(build(make), seed)


@every_net
@pytest.mark.parametrize("seed", range(2))
def test_they_are_batch_norm_over_steps_and_samples(name: str, seed: int) -> None:
    module, (x, y) = training(NETS[name], seed=seed), data(name, seed)
    expected, after = by_steps_in_the_batch(module, NETS[name](rows), x, y)
    (update,) = learn(DSR("joint"), module, x, y)
    assert all(0.03 < rate < 0.97 for rate in update.rates.values()), update.rates
    assert_near(collected(module), expected)
    torch.testing.assert_close(buffers(module), after, rtol=1e-12, atol=1e-12)


@every_net
def test_they_are_the_slopes_of_their_definition(name: str) -> None:
    module, (x, y) = training(NETS[name]), data(name)
    twin, source = NETS[name](shifted), torch.Generator().manual_seed(7)
    twin.load_state_dict(module.state_dict())
    for one, other in zip(module.modules(), twin.modules()):
        other.training = one.training
    along = {n: torch.randn(p.shape, generator=source) for n, p in module.named_parameters()}
    expected = slopes(twin, x, y, along)
    learn(DSR("joint"), module, x, y)
    for n, grad in collected(module).items():
        assert abs(float((grad * along[n]).sum()) - expected[n]) < 1e-9, n


class Scaling(nn.BatchNorm1d):
    """A batch norm with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * super().forward(2 * x) - x


@pytest.mark.parametrize("norm", [Scaling, JointBatchNorm1d])
def test_norms_of_other_kinds(norm: Callable[[int], nn.Module]) -> None:
    def build(make: Make) -> nn.Module:
        return dense(lambda n: [nn.Linear(n, n), norm(n), nn.Linear(n, n), norm(n)], make)

    module, (x, y) = training(build), data("pair")
    expected, _ = by_steps_in_the_batch(module, build(rows), x, y)
    learn(DSR("joint"), module, x, y)
    assert_near(collected(module), expected)


def test_a_mask_between_them() -> None:
    def build(make: Make, mask: nn.Module) -> nn.Module:
        return dense(lambda n: [nn.Linear(n, n), nn.BatchNorm1d(n), mask, nn.Linear(n, n), nn.BatchNorm1d(n)], make)

    module, (x, y) = training(partial(build, mask=nn.Dropout(0.4))), data("pair")
    before = deepcopy(module)
    (update,) = learn(DSR("joint"), module, x, y)
    mask = update.state["4"]["mask"]
    assert 0 < (mask == 0).sum() < mask.numel()
    assert_near(collected(module), by_steps_in_the_batch(before, build(rows, Masked(mask)), x, y)[0])


@pytest.mark.parametrize("trained", ["0.weight", "1.threshold", "2.weight", "3.bias"])
def test_one_parameter_that_is_trained(trained: str) -> None:
    module, (x, y) = training(NETS["three"]), data("three")
    expected, _ = by_steps_in_the_batch(module, NETS["three"](rows), x, y)
    for name, p in module.named_parameters():
        p.requires_grad_(name == trained)
    learn(DSR("joint"), module, x, y)
    torch.testing.assert_close(collected(module)[trained], expected[trained], rtol=1e-10, atol=1e-14)


@every_net
def test_implicit_differentiation_is_the_same_without_feedback(name: str) -> None:
    one, other, (x, y) = training(NETS[name]), training(NETS[name]), data(name)
    learn(DSR("joint"), one, x, y)
    learn(IDE(batch_norm="joint"), other, x, y)
    assert_near(collected(other), collected(one))


@pytest.mark.long
def test_a_second_phase_of_spikes_tends_to_it() -> None:
    exact, (x, y) = training(NETS["three"]), data("three")
    learn(IDE(batch_norm="joint", mask="output"), exact, x, y)
    expected = collected(exact)
    for steps, below in ((100, 0.1), (800, 0.02)):
        module = training(NETS["three"])
        learn(SPIDE(steps, batch_norm="joint", loss_scale=0.05), module, x, y)
        off = relative(collected(module), expected)
        assert max(off[name] for name, grad in expected.items() if grad.norm() > 1e-3) < below


def test_simulations_with_a_graph_are_the_same_bit_for_bit() -> None:
    x, module = data("inverted")[0].float(), training(NETS["inverted"]).float()
    in_front = {"7": ("3",), "10": ("3", "7")}
    norms = (Joint(), SecondPass({}, in_front), BetweenNorms(in_front))
    first, *others = (Network(module).start(x, cut=True, normalise=norm.simulate).advance(x) for norm in norms)
    assert all(torch.equal(first, other) for other in others)


def runs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    net = Network(module)
    net.wiring(x)
    with patch.object(Run, "advance", autospec=True, side_effect=Run.advance) as advance:
        list(DSR("joint", chunk=None).updates(net, x, y, OnRate(F.cross_entropy)))
    return advance.call_count


def test_another_simulation_only_where_norms_are_stacked() -> None:
    def plain(n: int) -> list[nn.Module]:
        return [nn.Linear(n, n), nn.BatchNorm1d(n), integrate(), nn.Linear(n, n), nn.BatchNorm1d(n)]

    assert runs(training(partial(dense, plain)), *data("dense")) == 2
    assert runs(training(NETS["pair"]), *data("pair")) == 3
    assert runs(training(NETS["residual"]), *data("residual")) == 3
    for norm in ("3", "5"):  # a norm whose scale is fixed, or that has no variance of its own
        module = training(NETS["pair"])
        module.get_submodule(norm).eval()
        assert runs(module, *data("pair")) == 2
    assert runs(training(NETS["pair"]).eval(), *data("pair")) == 1


@pytest.mark.long
def test_nothing_is_kept() -> None:
    module, (x, y) = training(NETS["residual"]), data("residual")
    gc.collect()
    gc.disable()
    try:
        with SavedBytes() as saved:
            rule = DSR("joint")
            for _ in rule.updates(Network(module), x, y, OnRate(F.cross_entropy)):
                assert saved.alive == 0
    finally:
        gc.enable()
