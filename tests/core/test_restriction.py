"""Norms of weights below a bound, against dense matrices and the derivative of a singular value decomposition."""

import copy
import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.errors import ConfigError
from spikewright.layers import Feedback, ScaledWSConv2d, ScaledWSLinear, operator_norm, power_iteration
from spikewright.layers import restrict_frobenius as frobenius
from spikewright.layers import restrict_spectral as spectral
from spikewright.layers.restriction import FrobeniusRestriction, SpectralRestriction
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, Rule
from tests.core.support import lively
from tests.rules.support import CE, learn

Size = tuple[int, ...] | None
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (7,)),
    "strided": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (5, 6)),
    "same": (lambda: nn.Conv2d(3, 4, (4, 2), padding="same", dilation=(1, 2)), (5, 6)),
    "circular": (lambda: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="circular"), (5, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 2, 3, padding=1), (3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), (3, 4)),
    "grouped": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, dilation=2, groups=2, bias=False), (5,)),
}
every_convolution = pytest.mark.parametrize("name", LAYERS)
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(3)
    make, size = LAYERS[name]
    return make(), size


def used(layer: nn.Module) -> Tensor:
    """The weight in use; in training mode with gradients this is a use."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def dense(layer: nn.Module, size: Size = None) -> Tensor:
    """The matrix of a layer, `[all outputs, all inputs]`, from what it makes of unit vectors."""
    if size is None:
        return used(layer)
    units = torch.eye(layer.in_channels * math.prod(size)).unflatten(1, (layer.in_channels, *size))  # type: ignore
    return (layer(units) - layer(torch.zeros_like(units[:1]))).flatten(1).T


def norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.detach(), 2))


def restriction(layer: nn.Module) -> SpectralRestriction:
    found = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
    assert isinstance(found, SpectralRestriction)
    return found


def linear(scale: float = 3.0) -> nn.Linear:
    torch.manual_seed(4)
    layer = nn.Linear(6, 5)
    layer.weight.data.mul_(scale)
    return layer


def original(layer: nn.Module) -> nn.Parameter:
    return layer.parametrizations.weight.original  # type: ignore[union-attr, return-value]


@every_convolution
def test_the_gain_of_a_convolution_is_that_of_its_matrix(name: str) -> None:
    layer, size = made(name)
    assert operator_norm(layer, size) == pytest.approx(norm(dense(layer, size)), rel=1e-9)


@every_convolution
def test_a_convolution_is_restricted_as_an_operator(name: str) -> None:
    layer, size = made(name)
    assert spectral(layer, 0.3, size) is layer
    assert norm(dense(layer, size)) == pytest.approx(0.3, rel=1e-6)
    assert operator_norm(layer) < 0.3


def by_output(layer: nn.Module) -> Tensor:
    """The weight as `[output channel, all else]`, one output channel after the other."""
    weight = used(layer).detach()
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        groups = weight.chunk(layer.groups)
        return torch.stack([group[:, k].flatten() for group in groups for k in range(group.shape[1])])
    return torch.stack([row.flatten() for row in weight])


@every_convolution
def test_without_a_size_the_weight_is_a_matrix(name: str) -> None:
    layer, _ = made(name)
    assert operator_norm(layer) == pytest.approx(norm(by_output(layer)), rel=1e-12)
    spectral(layer, 0.3)
    assert norm(by_output(layer)) == pytest.approx(0.3, rel=1e-12)


def test_the_matrix_norm_of_a_convolution_is_not_its_gain() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.ones_(layer.weight)
    assert operator_norm(layer) == pytest.approx(3.0)
    assert operator_norm(layer, (20, 20)) == pytest.approx((1 + 2 * math.cos(math.pi / 21)) ** 2)


def test_the_gain_is_of_the_weight_in_use_and_needs_enough_iterations() -> None:
    layer = ScaledWSLinear(6, 5)
    nn.init.uniform_(layer.weight, 1, 2)
    assert operator_norm(layer) == pytest.approx(norm(layer.effective_weight()), rel=1e-12)
    assert norm(layer.effective_weight()) < norm(layer.weight) / 2
    assert operator_norm(layer, iterations=1) < 0.99 * operator_norm(layer)


def test_measuring_leaves_everything_as_it_is() -> None:
    layer, random = spectral(linear()), torch.get_rng_state()
    original(layer).data.add_(0.1)
    before = copy.deepcopy(layer.state_dict())
    with torch.inference_mode():
        inside = operator_norm(layer)
    assert operator_norm(layer) == inside == pytest.approx(norm(layer.eval().weight))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert operator_norm(linear(0.0)) == 0


@pytest.mark.parametrize("scale, unchanged", [(0.5, True), (3.0, False)])
def test_a_weight_within_the_limit_stays_and_the_gradient_of_the_gain_is_alive(scale: float, unchanged: bool) -> None:
    layer = linear(scale)
    before = layer.weight.detach().clone()
    assert (norm(before) < 1) == unchanged
    spectral(layer)
    expected = before if unchanged else before / norm(before)
    torch.testing.assert_close(layer.weight, expected, rtol=1e-9, atol=0)
    assert restriction(layer).gain.item() == pytest.approx(min(norm(before), 1.0))
    layer.weight.square().sum().backward()
    gradient = torch.tensor(2 * float(expected.square().sum()) / min(norm(before), 1.0))
    torch.testing.assert_close(restriction(layer).gain.grad, gradient)


@pytest.mark.parametrize("gain", [5.0, -5.0])
def test_the_gain_is_clamped_on_both_sides(gain: float) -> None:
    layer = spectral(linear(), 0.7).eval()
    restriction(layer).gain.data.fill_(gain)
    torch.testing.assert_close(layer.weight, math.copysign(0.7, gain) * original(layer) / norm(original(layer)))
    layer.weight.sum().backward()
    assert restriction(layer).gain.grad == 0


SMALL = [(nn.Linear, (6, 5), None), (nn.Conv2d, (2, 3, 3), (4, 5)), (nn.Conv2d, (2, 3, 3), None)]
small_layers = pytest.mark.parametrize("kind, shape, size", SMALL, ids=["linear", "operator", "matrix"])


def small(kind: Callable[..., nn.Module], shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(5)
    return kind(*shape)


def true_norm(layer: nn.Module, size: Size) -> float:
    return norm(dense(layer, size) if size else by_output(layer))


@small_layers
@pytest.mark.parametrize("further, excess", [(2, 1e-6), (1, 3e-6)])
def test_the_bound_holds_while_the_weight_is_trained(
    kind: type, shape: tuple[int, ...], size: Size, further: int, excess: float
) -> None:
    layer = spectral(small(kind, shape), 0.5, size)
    start, cotangent = copy.deepcopy(layer), torch.randn(original(layer).shape)
    optimizer = torch.optim.SGD(layer.parameters(), lr=2e-4)
    for _ in range(300):
        optimizer.zero_grad()
        (used(layer) * cotangent).sum().backward()
        optimizer.step()
        power_iteration(layer, further)
        used(layer)
        assert true_norm(layer, size) <= 0.5 * (1 + excess)
    original(start).data.copy_(original(layer))
    assert true_norm(start.eval(), size) > 0.5 * 1.001  # by the vectors of the start it would not


def test_vectors_that_were_overtaken_catch_up() -> None:
    layer = spectral(linear(), 0.5)
    optimizer, target = torch.optim.SGD(layer.parameters(), lr=0.05), torch.randn(5, 6)
    for _ in range(50):
        optimizer.zero_grad()
        (layer.weight - target).square().sum().backward()
        optimizer.step()
    behind = operator_norm(layer)
    power_iteration(layer, 200)
    assert behind > 0.5 * 1.05
    assert operator_norm(layer) <= 0.5 * (1 + 1e-6)


@small_layers
def test_after_an_update_the_bound_is_exceeded_by_a_share_of_second_order(
    kind: type, shape: tuple[int, ...], size: Size
) -> None:
    excess = []
    for step in (1e-2, 1e-3):
        layer = spectral(small(kind, shape), 0.1, size)
        original(layer).data.add_(step * torch.randn(original(layer).shape, generator=torch.Generator().manual_seed(1)))
        excess.append(true_norm(layer.eval(), size) / 0.1 - 1)
        power_iteration(layer, 60)
        assert true_norm(layer.eval(), size) / 0.1 - 1 < excess[-1] / 100
    assert math.log10(excess[0] / excess[1]) == pytest.approx(2, abs=0.2)


@small_layers
def test_the_scale_of_the_trained_tensor_does_not_matter(kind: type, shape: tuple[int, ...], size: Size) -> None:
    layer = spectral(small(kind, shape), 0.5, size)
    before = used(layer).detach().clone()
    original(layer).data.mul_(37.0)
    for mode in (True, False):
        torch.testing.assert_close(used(layer.train(mode)), before, rtol=1e-7, atol=1e-9)


@small_layers
def test_gradients_are_finite_differences_at_fixed_vectors(kind: type, shape: tuple[int, ...], size: Size) -> None:
    layer = spectral(small(kind, shape), 0.5, size).eval()
    original(layer).data.add_(0.01)  # not converged, which is not needed for this
    restriction(layer).gain.data.fill_(0.4)
    form = restriction(layer)

    def weight(w: Tensor, gain: Tensor) -> Tensor:
        return torch.func.functional_call(form, {"gain": gain}, (w,))

    assert torch.autograd.gradcheck(weight, (original(layer), form.gain))


@small_layers
def test_gradients_are_those_of_the_largest_singular_value(kind: type, shape: tuple[int, ...], size: Size) -> None:
    layer, plain = spectral(small(kind, shape), 0.5, size), small(kind, shape)
    weight = used(plain)
    cotangent = torch.randn(weight.shape)
    matrix = dense(plain, size) if size else weight.flatten(1)
    expected = 0.5 * weight / torch.linalg.matrix_norm(matrix, 2)
    (by_svd,) = torch.autograd.grad((expected * cotangent).sum(), weight)
    (found,) = torch.autograd.grad((used(layer) * cotangent).sum(), original(layer))
    torch.testing.assert_close(found, by_svd, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close((found * weight).sum(), torch.zeros(()), rtol=0, atol=1e-12)


def test_one_iteration_for_every_weight_in_training_with_gradients_and_none_elsewhere() -> None:
    layer = spectral(linear())
    original(layer).data.add_(0.2 * torch.rand(5, 6))
    form, w = restriction(layer), original(layer).detach()
    before, v = copy.deepcopy(layer.state_dict()), form.v.clone()
    with torch.no_grad():
        quiet = layer.weight.clone()
        assert torch.equal(layer.weight, quiet)
    assert torch.equal(layer.eval().weight, quiet)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    layer.train()
    for _ in range(3):
        weight = layer.weight
        u = w @ v / (w @ v).norm()
        v = w.T @ u / (w.T @ u).norm()
        torch.testing.assert_close((form.u, form.v), (u, v), rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(weight, w / (u @ w @ v), rtol=1e-13, atol=0)
        iterated = form.u.clone(), form.v.clone()
        for _ in range(3):  # however often this weight is used
            assert torch.equal(layer.weight, weight)
        assert torch.equal(form.u, iterated[0]) and torch.equal(form.v, iterated[1])
        quiet = weight.detach().clone()
        original(layer).data.add_(0.2 * torch.rand(5, 6))
    assert not torch.equal(layer.eval().weight, quiet)


def test_a_restored_layer_is_the_same_to_the_last_bit() -> None:
    layer, other = spectral(linear()), spectral(linear(1.0))
    for _ in range(3):
        (layer.weight * torch.randn(5, 6)).sum().backward()
        original(layer).data.sub_(0.1 * original(layer).grad)  # type: ignore[operator]
    names = {f"parametrizations.weight.{name}" for name in ("original", "0.gain", "0.u", "0.v")}
    assert layer.state_dict().keys() == names | {"bias"}
    assert not torch.equal(other.eval().weight, layer.eval().weight)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.train().weight, layer.train().weight)


def test_two_uses_and_one_backward() -> None:
    layer, x, y = spectral(linear()), torch.randn(3, 6), torch.randn(4, 6)
    original(layer).data.add_(0.2 * torch.rand(5, 6))
    twin = copy.deepcopy(layer)
    (layer(x).sin().sum() + layer(y).cos().sum()).backward()
    twin(x).sin().sum().backward()
    twin(y).cos().sum().backward()
    for found, expected in zip(layer.parameters(), twin.parameters()):
        torch.testing.assert_close(found.grad, expected.grad)
    assert torch.equal(restriction(layer).v, restriction(twin).v)


def test_a_copy_goes_its_own_way() -> None:
    layer = spectral(nn.Conv2d(2, 2, 3, padding=1), size=(4, 4))
    twin, before = copy.deepcopy(layer), restriction(layer).v.clone()
    original(twin).data.add_(0.1 * torch.rand(2, 2, 3, 3))
    assert twin.weight.requires_grad
    assert torch.equal(restriction(layer).v, before)
    assert not torch.equal(restriction(twin).v, before)


def test_low_precision_does_not_reach_the_norm() -> None:
    for restrict in (spectral, lambda layer: frobenius(layer, 1.0), lambda layer: frobenius(layer, 1.0, probes=4)):
        layer = restrict(nn.Conv2d(3, 4, 3).float())
        original(layer).data.neg_()  # another weight, which has to be looked at
        twin = copy.deepcopy(layer)
        torch.manual_seed(6)
        with torch.autocast("cpu", torch.bfloat16):
            inside = layer.weight
        torch.manual_seed(6)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, twin.weight)


def test_frozen_weights_stay_frozen() -> None:
    for restrict in (spectral, frobenius):
        layer = restrict(linear().requires_grad_(False))
        assert [p.requires_grad for p in layer.parameters()] == [False] * len(list(layer.parameters()))
    assert restriction(spectral(spectral(linear()))).gain.requires_grad


@pytest.mark.parametrize("limit, binds", [(2.0, True), (100.0, False)])
def test_the_frobenius_norm_is_bounded_and_not_differentiated(limit: float, binds: bool) -> None:
    layer = linear(9.0)
    before = layer.weight.detach().clone()
    factor = min(1.0, limit / float(before.norm()))
    assert (factor < 1) == binds
    frobenius(layer, limit)
    torch.testing.assert_close(layer.weight, before * factor)
    assert float(layer.weight.detach().norm()) <= limit * (1 + 1e-12)
    cotangent = torch.randn(5, 6)
    (layer.weight * cotangent).sum().backward()
    torch.testing.assert_close(original(layer).grad, cotangent * factor)
    assert layer.state_dict().keys() == {"bias", "parametrizations.weight.original"}
    assert not frobenius(linear(0.0)).weight.any()


@pytest.mark.parametrize("name", ["strided", "grouped"])
def test_the_norm_by_random_vectors(name: str) -> None:
    layer, _ = made(name)
    rows = by_output(layer)
    frobenius(layer, 0.1, probes=8)
    form = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
    assert isinstance(form, FrobeniusRestriction)
    assert form.norm is not None
    original(layer).data.neg_()  # another weight, of the same norm, since a norm is drawn once for each
    torch.manual_seed(6)
    once = used(layer)
    torch.manual_seed(6)
    estimate = (torch.randn(8, len(rows)) @ rows).square().sum(1).mean().sqrt()
    torch.testing.assert_close(form.norm, estimate)
    torch.testing.assert_close(once, original(layer) * 0.1 / estimate)
    with torch.no_grad():
        assert torch.equal(used(layer), once)
    assert torch.equal(used(layer.eval()), once)
    other = frobenius(made(name)[0], 0.1, probes=8).eval()
    assert not torch.equal(used(other), once)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(used(other), once)
    layer.train()
    squares = []
    for _ in range(400):
        original(layer).data.neg_()  # another weight, of the same norm
        used(layer)
        assert torch.equal(used(layer), used(layer))
        squares.append(float(form.norm) ** 2)
    assert sum(squares) / 400 == pytest.approx(float(rows.square().sum()), rel=0.05)


def test_both_restrictions_at_once() -> None:
    layer = frobenius(spectral(linear(), 0.5), 0.6)
    assert float(layer.weight.detach().norm()) == pytest.approx(0.6)
    layer = spectral(frobenius(linear(), 0.6), 0.1)
    assert operator_norm(layer) == pytest.approx(0.1)


@pytest.mark.parametrize("restrict", [spectral, frobenius, lambda layer: frobenius(layer, probes=4)])
def test_a_restriction_can_be_removed(restrict: Callable[[nn.Linear], nn.Linear]) -> None:
    for left in (True, False):
        layer = restrict(linear(9.0))
        expected = layer.eval().weight if left else original(layer)
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=left)
        assert type(layer) is nn.Linear
        assert torch.equal(layer.weight, expected)
        assert layer.state_dict().keys() == {"weight", "bias"}
        assert restrict(layer).weight.requires_grad


def dense_loop(transform: nn.Module) -> nn.Module:
    source = LIF(3.0)
    back = Feedback(transform, source=source)
    return nn.Sequential(nn.Linear(8, 12), back, LIF(1.5), nn.Linear(12, 10), source, nn.Linear(10, 4))


def image_loop(transform: nn.Module) -> nn.Module:
    source = LIF()
    first = [nn.Conv2d(2, 3, 3, padding=1), Feedback(transform, source), LIF(), nn.Conv2d(3, 4, 3, 2, 1), source]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(36, 4))


LOOPS: dict[str, tuple[Callable[[nn.Module], nn.Module], nn.Module, tuple[int, ...], Size]] = {
    "dense": (dense_loop, nn.Linear(10, 12), (8,), None),
    "image": (image_loop, nn.ConvTranspose2d(4, 3, 3, 2, 1, 1), (2, 6, 6), (3, 3)),
}
every_loop = pytest.mark.parametrize("name", LOOPS)


def loop(name: str, restrict: Callable[[nn.Module, Size], nn.Module]) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A network with feedback, the layer that feeds back, and data."""
    build, transform, shape, size = LOOPS[name]
    torch.manual_seed(8)
    transform = copy.deepcopy(transform).double()
    for p in transform.parameters():
        nn.init.uniform_(p, -0.5, 0.5)
    net = lively(build(nn.Identity()), 9)
    transform = restrict(transform, size)
    net[1].transform = transform  # type: ignore[index]
    return net, transform, 4 * torch.rand(6, 5, *shape), torch.tensor([0, 1, 2, 3, 0])


@every_loop
@pytest.mark.parametrize("rule", [BPTT(), OTTT()], ids=["bptt", "ottt"])
def test_in_a_run_the_weight_is_used_and_differentiated_as_outside(name: str, rule: Rule) -> None:
    net, transform, x, y = loop(name, lambda layer, size: spectral(layer, 0.4, size))
    plain, bare, _, _ = loop(name, lambda layer, size: layer)
    w = used(bare).detach().clone().requires_grad_()
    used(bare).data = used(transform).detach()
    buffers = [b.clone() for b in net.buffers()]
    assert torch.equal(Network(plain).run(x)[0], Network(net).eval().run(x)[0])
    assert Network(net).train().wiring(x).synapses.keys() == Network(plain).wiring(x).synapses.keys()
    assert all(torch.equal(b, before) for b, before in zip(net.buffers(), buffers))  # looking leaves no mark
    learn(rule, plain, x, y)
    learn(rule, net, x, y)
    bare_norm = torch.linalg.matrix_norm(dense_of(bare, w, LOOPS[name][3]), 2)
    (expected,) = torch.autograd.grad((0.4 * w / bare_norm * used(bare).grad).sum(), w)
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(original(transform).grad, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(transform.bias.grad, bare.bias.grad)  # type: ignore[union-attr]


def dense_of(layer: nn.Module, weight: Tensor, size: Size) -> Tensor:
    """The matrix of a layer with another weight, differentiable in it."""
    if size is None:
        return weight
    units = torch.eye(4 * math.prod(size)).unflatten(1, (4, *size))
    values = {"weight": weight, "bias": torch.zeros(3)}
    return torch.func.functional_call(layer, values, (units,)).flatten(1).T


RESTRICTIONS: list[Callable[[nn.Module, Size], nn.Module]] = [
    lambda layer, size: spectral(layer, 0.4, size),
    lambda layer, size: frobenius(layer, 0.8),
    lambda layer, size: frobenius(layer, 0.8, probes=16),
]


@every_loop
@pytest.mark.parametrize("restrict", RESTRICTIONS, ids=["spectral", "frobenius", "probes"])
@pytest.mark.long
def test_a_network_with_restricted_feedback_trains(name: str, restrict: Callable[[nn.Module, Size], nn.Module]) -> None:
    net, transform, x, y = loop(name, restrict)
    before = original(transform).detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses += [float(update.loss) for update in BPTT().updates(Network(net), x, y, CE)]
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    assert not torch.equal(original(transform), before)
    if restrict is RESTRICTIONS[0]:
        assert operator_norm(transform, LOOPS[name][3]) <= 0.4 * (1 + 1e-5)
    elif restrict is RESTRICTIONS[1]:
        assert float(used(transform).detach().norm()) <= 0.8 * (1 + 1e-12)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: spectral(nn.ReLU()), "restrict_spectral was given ReLU, which has no weight .* Give it an nn.Linear"),
    (lambda: frobenius(nn.Sequential(nn.Linear(2, 2))), "restrict_frobenius was given Sequential.* its layers"),
    (lambda: operator_norm(nn.Embedding(3, 3)), "operator_norm was given Embedding"),
    (lambda: spectral(linear(), 0.0), r"limit=0\.0"),
    (lambda: frobenius(linear(), math.nan), r"restrict_frobenius\(limit=nan\)"),
    (lambda: spectral(linear(), size=(3, 3)), r"restrict_spectral\(size=\(3, 3\)\) .* Linear have 0 .* Use size=None"),
    (lambda: power_iteration(linear()), "power_iteration was given Linear, .* Give it a layer that restrict_spectral"),
    (lambda: power_iteration(frobenius(linear())), "power_iteration was given ParametrizedLinear"),
    (lambda: power_iteration(nn.Sequential(spectral(linear()))), "of a network, each"),
    (lambda: operator_norm(linear(), (3,)), r"operator_norm\(size=\(3,\)\)"),
    (lambda: spectral(nn.Conv2d(2, 2, 3), size=(3,)), "inputs of that size, .*Conv2d have 2 axes .* Use 2 numbers"),
    (lambda: spectral(nn.Conv2d(2, 2, 3), size=(3, 0)), r"size="),
    (lambda: frobenius(linear(), probes=0), r"probes=0"),
    (lambda: spectral(linear(0.0)), r"a weight \[5, 6\] of norm 0, .* Initialise"),
    (lambda: spectral(linear(math.nan)), "of norm nan"),
    (lambda: spectral(ScaledWSConv2d(2, 2, 3)), "ScaledWSConv2d, which standardises .* Use the plain torch layer"),
]


@pytest.mark.parametrize("attempt, message", REFUSED)
def test_what_cannot_be_restricted_is_refused(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        attempt()
    assert re.search(message, str(caught.value))
