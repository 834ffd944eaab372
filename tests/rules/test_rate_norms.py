"""The three meanings of batch norm in rules that learn from rates, each against its own definition."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.layers import JointBatchNorm1d
from spikewright.losses import OnRate
from spikewright.network import Network
from spikewright.neurons import IF, LIF, Neuron
from spikewright.neurons.dsr import DSRIF, DSRLIF
from spikewright.reports.energy_estimate import energy
from spikewright.reports.gradient_check import certify
from spikewright.reports.memory_profile import plan
from spikewright.rules import DSR, IDE, SPIDE, Rule
from spikewright.rules.rates.norms import NormName
from spikewright.temporal import State
from tests.nets import sample
from tests.oracles.compare import relative
from tests.oracles.dsr_reference import Kind, Neurons
from tests.oracles.machine import Machine, Params
from tests.oracles.rate import AtRates, gradients
from tests.oracles.rate_machine import Cell
from tests.rules.support import collected, learn
from tests.rules.test_dsr import assert_near

MODES: tuple[NormName, ...] = get_args(NormName)
every_mode = pytest.mark.parametrize("mode", MODES)
CE = OnRate(F.cross_entropy)
Make = Callable[[], nn.Module]


def dense(make: Make) -> nn.Module:
    first = [nn.Linear(8, 12), nn.BatchNorm1d(12), make(), nn.Linear(12, 10), nn.BatchNorm1d(10), make()]
    return nn.Sequential(*first, nn.Linear(10, 4), nn.BatchNorm1d(4), make())


def pooled(make: Make) -> nn.Module:
    first = [nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5), make(), nn.AvgPool2d(2)]
    last = [nn.Conv2d(5, 6, 3, stride=2), nn.BatchNorm2d(6), make(), nn.Flatten(), nn.Linear(6, 4)]
    return nn.Sequential(*first, *last)


def stacked(make: Make) -> nn.Module:
    """Two norms with no neurons between them, so that the current of the second depends on the first."""
    first = [nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Linear(12, 10), nn.BatchNorm1d(10), make()]
    return nn.Sequential(*first, nn.Linear(10, 4), nn.BatchNorm1d(4), make())


class PreActivation(nn.Module):
    """A residual block of norm, neurons, convolution; of spikes, or of currents, which two norms then read."""

    def __init__(self, make: Make, of_currents: bool) -> None:
        super().__init__()
        self.of_currents = of_currents
        self.stem, self.norm1, self.neurons1 = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), make()
        self.conv1, self.norm2, self.neurons2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), make()
        self.conv2, self.short = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm3, self.neurons3, self.out = nn.BatchNorm2d(4), make(), nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        spikes = self.neurons1(self.norm1(x))
        last = self.conv2(self.neurons2(self.norm2(self.conv1(spikes))))
        x = self.norm3(last + (x if self.of_currents else self.short(spikes)))
        return self.out(F.avg_pool2d(self.neurons3(x), 2).flatten(1))


NETS: dict[str, tuple[Callable[[Make], nn.Module], str]] = {
    "dense": (dense, "mlp"),
    "pooled": (pooled, "conv"),
    "stacked": (stacked, "mlp"),
    "residual of spikes": (partial(PreActivation, of_currents=False), "residual"),
    "residual of currents": (partial(PreActivation, of_currents=True), "residual"),
}
"""Module, and the network of `tests/nets.py` whose data it takes."""


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Synapses and norms of any scale, and running statistics that are not those of the data."""
    source = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        noise = torch.randn(p.shape, generator=source)
        if p.dim() > 1:
            p.data = 2.5 / p[0].numel() ** 0.5 * noise
        elif p.dim() == 1:
            p.data = (0.8 if name.endswith("weight") else 0.5) + 0.2 * noise
    for norm in norms(module).values():
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(0.2 * torch.randn(norm.num_features, generator=source))
        norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=source))
    return module


def norms(module: nn.Module) -> dict[str, _BatchNorm]:
    return {name: m for name, m in module.named_modules() if isinstance(m, _BatchNorm)}


def buffers(module: nn.Module) -> Params:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def data(name: str, still: bool = False) -> tuple[Tensor, Tensor]:
    x, y = sample(name, 0, steps=12, batch=5)
    return (x[:1].expand_as(x) if still else x), y


class AllAtOnce(nn.Module):
    """Neurons without leak over `[time * batch, *feature]`, with the backward pass of the authors of DSR."""

    def __init__(self, threshold: float, steps: int = 12) -> None:
        super().__init__()
        self.threshold, self.steps = nn.Parameter(torch.tensor(threshold)), steps

    def forward(self, x: Tensor) -> Tensor:
        return Neurons.apply(x, self.threshold, self.steps, Kind(0.4))


integrate = partial(DSRIF, 1.2345, 0.4)


def by_steps_in_the_batch(module: nn.Module, twin: nn.Module, x: Tensor, y: Tensor) -> tuple[Params, Params]:
    """Gradients and buffers of `twin`, which has the state of `module`, over all steps as if they were samples."""
    twin.load_state_dict(module.state_dict())
    for one, other in zip(module.modules(), twin.modules()):
        other.training = one.training
    F.cross_entropy(twin(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(0), y).backward()
    return collected(twin), buffers(twin)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_joint_is_batch_norm_over_steps_and_samples(name: str, still: bool, seed: int) -> None:
    build, source = NETS[name]
    module, (x, y) = filled(build(integrate), seed), data(source, still)
    expected, after = by_steps_in_the_batch(module, build(lambda: AllAtOnce(1.2345)), x, y)
    (update,) = learn(DSR("joint"), module, x, y)
    assert all(0.03 < rate < 0.97 for rate in update.rates.values()), update.rates
    assert_near(collected(module), expected)
    torch.testing.assert_close(buffers(module), after, rtol=1e-12, atol=1e-12)
    assert all(norm.num_batches_tracked == 1 for norm in norms(module).values())
    assert expected[next(iter(expected))].norm() > 1e-3  # the first weight, of what feeds a norm


def bottleneck(make: Make, *, image: bool, behind: int) -> nn.Module:
    """Pairs of norms with no neurons between them, behind so many layers of neurons."""
    layer: Any = partial(nn.Conv2d, kernel_size=3, padding=1) if image else nn.Linear
    norm: Any = nn.BatchNorm2d if image else nn.BatchNorm1d
    before = [layer(2 if image else 8, 6), make()] if behind == 1 else []
    if behind == 2:
        before = [layer(2 if image else 8, 5), norm(5), layer(5, 6), norm(6), make()]
    pair = [layer(6, 3), norm(3), layer(3, 6), norm(6), make()]
    last = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 4)] if image else [nn.Linear(6, 4)]
    return nn.Sequential(*before, *pair, *last)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("behind", [1, 2])
@pytest.mark.parametrize("still", [False, True])
def test_joint_behind_joint_is_exact(image: bool, behind: int, still: bool) -> None:
    build = partial(bottleneck, image=image, behind=behind)
    module, (x, y) = filled(build(integrate)), data("conv" if image else "mlp", still)
    expected, after = by_steps_in_the_batch(module, build(lambda: AllAtOnce(1.2345)), x, y)
    learn(DSR("joint"), module, x, y)
    assert_near(collected(module), expected)
    torch.testing.assert_close(buffers(module), after, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["1", "4"])
def test_joint_with_a_frozen_norm(frozen: str) -> None:
    module, (x, y) = filled(dense(integrate)), data("mlp")
    module.get_submodule(frozen).eval()
    expected, after = by_steps_in_the_batch(module, dense(lambda: AllAtOnce(1.2345)), x, y)
    learn(DSR("joint"), module, x, y)
    assert_near(collected(module), expected)
    torch.testing.assert_close(buffers(module), after, rtol=1e-12, atol=1e-12)


def test_joint_without_scale_and_shift() -> None:
    def build(make: Make) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12, affine=False), make(), nn.Linear(12, 4))

    module, (x, y) = filled(build(integrate)), data("mlp")
    expected, _ = by_steps_in_the_batch(module, build(lambda: AllAtOnce(1.2345)), x, y)
    learn(DSR("joint"), module, x, y)
    assert_near(collected(module), expected)


@pytest.mark.parametrize("chunk", [1, 5, "auto", "1 MiB"])
def test_joint_sees_all_steps_whatever_the_chunk(chunk: int | str) -> None:
    one, other, (x, y) = filled(dense(integrate)), filled(dense(integrate)), data("mlp")
    learn(DSR("joint", chunk=None), one, x, y)
    learn(DSR("joint", chunk=chunk), other, x, y)
    torch.testing.assert_close((collected(other), buffers(other)), (collected(one), buffers(one)), rtol=0, atol=0)


def test_a_norm_that_says_it_is_joint_is_the_same() -> None:
    def build(norm: Callable[[int], nn.Module]) -> nn.Module:
        return filled(nn.Sequential(nn.Linear(8, 12), norm(12), integrate(), nn.Linear(12, 4)))

    (x, y), one, other = data("mlp"), build(nn.BatchNorm1d), build(JointBatchNorm1d)
    for module in (one, other):
        learn(DSR("joint"), module, x, y)
    torch.testing.assert_close((collected(other), buffers(other)), (collected(one), buffers(one)), rtol=0, atol=0)


@pytest.mark.parametrize("rule", [DSR("joint"), IDE(batch_norm="joint"), SPIDE(batch_norm="joint")])
@pytest.mark.long
def test_joint_states_a_cost_only_where_one_simulation_is_enough(rule: Rule) -> None:
    net, (x, y) = Network(filled(dense(integrate))), data("mlp")
    assert energy(net, rule, x, y, CE).backward is None
    assert energy(net, DSR("rate"), x, y, CE).backward is not None
    net.module.eval()
    assert energy(net, rule, x, y, CE).backward is not None


class Masked(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return (x.unflatten(0, (-1, len(self.mask))) * self.mask).flatten(0, 1)


def dropped(make: Make, mask: nn.Module) -> nn.Module:
    first = [nn.Linear(8, 12), nn.BatchNorm1d(12), make(), mask]
    return nn.Sequential(*first, nn.Linear(12, 4), nn.BatchNorm1d(4), make())


def with_dropout(state: State | None) -> tuple[Params, Params]:
    """Gradients of a net with dropout and the joint norm, and those of steps in the batch with the mask it drew."""
    module, (x, y) = filled(dropped(integrate, nn.Dropout(0.4))), data("mlp")
    before = deepcopy(module)
    (update,) = learn(DSR("joint"), module, x, y, state=state)
    mask = update.state["3"]["mask"]
    assert 0 < (mask == 0).sum() < mask.numel()
    return collected(module), by_steps_in_the_batch(before, dropped(lambda: AllAtOnce(1.2345), Masked(mask)), x, y)[0]


@pytest.mark.parametrize("carried", [False, True])
def test_joint_beside_a_mask(carried: bool) -> None:
    """Both simulations have the same one, whether it was drawn in this sequence or before."""
    mask = (torch.rand(5, 12) > 0.4).double() / 0.6
    assert_near(*with_dropout({"3": {"mask": mask}} if carried else None))


def program(mode: NormName, module: nn.Module, tau: float, seen: Params, mask: Tensor | None = None) -> Callable:
    """A step of `PreActivation` where norms mean `mode`; their currents at rates go to `seen`."""
    running = buffers(module)

    def norm(name: str, current: Tensor, net: Machine) -> Tensor:
        at_rates = isinstance(net, AtRates)
        if at_rates:
            seen[name] = current.detach()
        scale, shift = net.params[f"{name}.weight"], net.params[f"{name}.bias"]
        if mode == "rate" and at_rates and module.training:
            return F.batch_norm(current, None, None, scale, shift, training=True)
        return F.batch_norm(current, running[f"{name}.running_mean"], running[f"{name}.running_var"], scale, shift)

    def step(x: Tensor, net: Machine) -> Tensor:
        x = net.syn("stem", x, post="1", padding=1)
        spikes = net.lif("1", norm("norm1", x, net), tau)
        current = net.syn("conv1", spikes, pre="1", post="2", padding=1)
        inner = net.lif("2", norm("norm2", current, net), tau)
        short = x if module.of_currents else net.syn("short", spikes, pre="1", post="3")
        last = net.lif("3", norm("norm3", net.syn("conv2", inner, pre="2", post="3", padding=1) + short, net), tau)
        last = last if mask is None else last * mask
        return net.syn("out", F.avg_pool2d(last, 2).flatten(1), pre="3")

    return step


OF_RATES: dict[str, tuple[Callable[[], Neuron], Cell, float]] = {
    "if": (partial(IF, 0.75, rest=-0.5, amplitude=1.5), Cell(1.25, 0.6, 1.0, 1.5), float("inf")),
    "lif": (partial(LIF, 3.0), Cell(), 3.0),
    "dsr lif": (
        partial(DSRLIF, 1.0, 0.05, 0.06, 0.3, learn_threshold=False),
        Cell(0.06, 0.3, 1 - 2.718281828459045**-0.05, 1.2),
        1 / (1 - 2.718281828459045**-0.05),
    ),
}


def of_rates(
    mode: NormName, module: nn.Module, name: str, x: Tensor, y: Tensor, **options: Any
) -> tuple[Params, Params]:
    """The gradient by the explicit program, and the mean currents of norms."""
    _, cell, tau = OF_RATES[name]
    given, seen = {n: p.detach() for n, p in module.named_parameters()}, {}
    step = program(mode, module, tau, seen, **options)
    return gradients(step, given, x, y, F.cross_entropy, "input", dict.fromkeys("123", cell)), seen


@pytest.mark.parametrize("mode", ["rate", "running"])
@pytest.mark.parametrize("name", OF_RATES)
@pytest.mark.parametrize("of_currents", [False, True])
@pytest.mark.parametrize("chunk", [None, 5])
def test_norms_of_rates_are_their_explicit_program(
    mode: NormName, name: str, of_currents: bool, chunk: int | None
) -> None:
    module, (x, y) = filled(PreActivation(OF_RATES[name][0], of_currents)), data("residual")
    norms(module)["norm2"].momentum = 0.3
    before = buffers(module)
    expected, seen = of_rates(mode, module, name, x, y)
    (update,) = learn(DSR(mode, chunk=chunk), module, x, y)
    assert all(0.03 < rate < 0.97 for rate in update.rates.values()), update.rates
    assert_near(collected(module), expected)
    for key, norm in norms(module).items():
        momentum, currents = norm.momentum or 0.0, seen[key].transpose(0, 1).flatten(1)
        for kind, found in (("mean", currents.mean(1)), ("var", currents.var(1))):
            moved = (1 - momentum) * before[f"{key}.running_{kind}"] + momentum * found
            torch.testing.assert_close(norm.get_buffer(f"running_{kind}"), moved, rtol=1e-12, atol=1e-12)
        assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("mode", ["rate", "running"])
def test_norms_of_rates_beside_a_mask(mode: NormName) -> None:
    module, (x, y) = filled(PreActivation(OF_RATES["lif"][0], False)), data("residual")
    module.neurons3 = nn.Sequential(module.get_submodule("neurons3"), nn.Dropout2d(0.4))
    before = deepcopy(module)
    (update,) = learn(DSR(mode), module, x, y)
    mask = update.state["neurons3.1"]["mask"]
    assert 0 < (mask == 0).sum() < mask.numel()
    assert_near(collected(module), of_rates(mode, before, "lif", x, y, mask=mask)[0])


@pytest.mark.parametrize("mode", ["rate", "running"])
def test_norms_of_rates_without_scale_and_shift(mode: NormName) -> None:
    def build(affine: bool) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12, affine=affine), integrate(), nn.Linear(12, 4))

    (x, y), one, other = data("mlp"), build(affine=False), build(affine=True)
    for module in (one, other):
        learn(DSR(mode), module, x, y)
    found = collected(other)
    assert_near(collected(one), {name: found[name] for name in collected(one)})


@every_mode
@pytest.mark.parametrize("name", OF_RATES)
def test_in_evaluation_all_are_the_affine_map_of_the_running_statistics(mode: NormName, name: str) -> None:
    module, (x, y) = filled(PreActivation(OF_RATES[name][0], False)).eval(), data("residual")
    before = buffers(module)
    (update,) = learn(DSR(mode, chunk=5), module, x, y)
    assert_near(collected(module), of_rates(mode, module, name, x, y)[0])
    torch.testing.assert_close(buffers(module), before, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(update.output, Network(module).run(x)[0], rtol=1e-12, atol=1e-12)


def block() -> nn.Module:
    return filled(PreActivation(integrate, of_currents=False))


@every_mode
def test_the_backward_of_the_caller_scales_all_of_it(mode: NormName) -> None:
    once, scaled, (x, y) = block(), block(), data("residual")
    learn(DSR(mode), once, x, y)
    (update,) = DSR(mode).updates(Network(scaled), x, y, CE, backward=lambda value: (4 * value).backward())
    assert_near(collected(scaled), {name: 4 * grad for name, grad in collected(once).items()})
    torch.testing.assert_close(buffers(scaled), buffers(once), rtol=0, atol=0)
    assert all(grad.any() for grad in collected(once).values()) and not update.loss.requires_grad


@every_mode
def test_gradients_are_added(mode: NormName) -> None:
    once, twice, (x, y) = block(), block(), data("residual")
    for p in twice.parameters():
        p.grad = torch.full_like(p, 0.5)
    for module in (once, twice):
        learn(DSR(mode), module, x, y)
    assert_near({name: grad - 0.5 for name, grad in collected(twice).items()}, collected(once))


@every_mode
def test_trials_leave_no_mark(mode: NormName) -> None:
    module, (x, y) = filled(dropped(integrate, nn.Dropout(0.4))), data("mlp")
    before, random = buffers(module), torch.get_rng_state()
    certify(Network(module), DSR(mode), x, y, CE)
    plan(Network(module), DSR(mode), x.shape, measure=(2, 4), report=())
    torch.testing.assert_close(buffers(module), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random) and not any(grad.any() for grad in collected(module).values())
    learn(DSR(mode), module, x, y)
    assert not torch.equal(buffers(module)["1.running_mean"], before["1.running_mean"])


def test_the_modes_are_different_rules() -> None:
    found = {}
    for mode in MODES:
        module, (x, y) = block(), data("residual")
        learn(DSR(mode), module, x, y)
        found[mode] = collected(module)
    for one, other in (("rate", "running"), ("rate", "joint"), ("running", "joint")):
        assert all(relative(found[one], found[other])[name] > 1e-2 for name in ("stem.weight", "norm2.weight"))
