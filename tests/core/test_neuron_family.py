"""Neurons with a rest, a gain and an amplitude, and those of DSR, whose threshold is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError
from spikewright.layers import Feedback
from spikewright.network import Network
from spikewright.neurons import IF, LIF, Neuron
from spikewright.neurons.dsr import DSRIF, DSRLIF
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from spikewright.surrogate import Sigmoid
from spikewright.temporal import SiteState
from tests.catalogue import everywhere, last_layer, readout
from tests.core.support import CE, Lambda, certificate, promised
from tests.nets import mlp, sample
from tests.oracles.compare import assert_agree
from tests.oracles.draw import weights
from tests.oracles.machine import Params, Spike
from tests.oracles.rate_machine import Cell, mean
from tests.rules.support import collected, learn


@dataclass(frozen=True)
class Member:
    """A neuron for three channels, and what it should be.

    `factor` is that of the threshold's gradient, `None` where there is no such parameter.
    """

    make: Callable[..., Neuron]
    cell: Cell
    leaks: tuple[float, float, float] = (1.0, 1.0, 1.0)
    factor: float | None = None

    @property
    def unit(self) -> float:
        """What a potential in the state counts; those of DSR are in units of the threshold."""
        return 1.0 if isinstance(self.make(), DSRIF | DSRLIF) else self.cell.reset_amount

    @property
    def full(self) -> float:
        """The mean current at which it fires at every step."""
        return self.cell.reset_amount / self.cell.gain


BETA, SLOW = math.exp(-0.05), math.exp(-0.1 / 1.5)
IF_CELL, LIF_CELL = Cell(1.25, 0.4, 1.0, 1.25), Cell(0.06, 0.3, 1 - BETA, 1.2)
lif = partial(LIF, threshold=0.5, rest=-0.25, gain=0.8, amplitude=1.3)
dsr_if, dsr_lif = partial(DSRIF, 1.25, 0.4), partial(DSRLIF, 1.0, 0.05, 0.06, 0.3)
FAMILY = {
    "if": Member(partial(IF, threshold=0.75), Cell(0.75)),
    "if, low rest": Member(partial(IF, threshold=0.7, rest=-0.7, gain=0.6, amplitude=1.5), Cell(1.4, 0.5, 0.6, 1.5)),
    "if, high rest": Member(partial(IF, threshold=0.8, rest=0.3), Cell(0.5, 1.6)),
    "lif": Member(partial(lif, tau=4.0), Cell(0.75, 2 / 3, 0.8, 1.3), (0.75, 0.75, 0.75)),
    "lif, tau per channel": Member(partial(lif, tau=[1.0, 2.0, 4.0]), Cell(0.75, 2 / 3, 0.8, 1.3), (0.0, 0.5, 0.75)),
    "dsr if": Member(dsr_if, IF_CELL, factor=1.0),
    "dsr if, slow threshold": Member(partial(dsr_if, threshold_grad=0.25), IF_CELL, factor=0.25),
    "dsr if, fixed": Member(partial(dsr_if, learn_threshold=False), IF_CELL),
    "dsr lif": Member(dsr_lif, LIF_CELL, (BETA, BETA, BETA), factor=0.05**2),
    "dsr lif, tau": Member(
        partial(DSRLIF, 1.5, 0.1, 0.12, 0.5, threshold_grad=0.5),
        Cell(0.12, 0.5, 1 - SLOW, 1.2),
        (SLOW, SLOW, SLOW),
        factor=0.5,
    ),
    "dsr lif, fixed": Member(partial(dsr_lif, learn_threshold=False), LIF_CELL, (BETA, BETA, BETA)),
}
UNIFORM = {name: member for name, member in FAMILY.items() if len(set(member.leaks)) == 1}
every_member = pytest.mark.parametrize("member", FAMILY.values(), ids=list(FAMILY))
uniform_member = pytest.mark.parametrize("member", UNIFORM.values(), ids=list(UNIFORM))


def currents(member: Member, steps: int = 25) -> Tensor:
    """`[time, batch=2, channel=3]`, from below zero to above what makes a neuron fire at every step."""
    source = torch.Generator().manual_seed(steps)
    return member.full * (1.9 * torch.rand(steps, 2, 3, generator=source, dtype=torch.float64) - 0.5)


def run(neuron: Neuron, x: Tensor, state: dict[str, SiteState] | None = None) -> tuple[Tensor, dict[str, SiteState]]:
    with torch.no_grad():
        return Network(nn.Sequential(neuron)).run(x, state)


def total(steps: int, leak: float) -> float:
    return sum(leak**age for age in range(steps))


def by_hand(x: list[float], leak: float, cell: Cell) -> tuple[list[float], float]:
    """What is sent at every step, and the potential at the end."""
    potential, sent = 0.0, []
    for current in x:
        potential = leak * potential + cell.gain * current
        fires = potential >= cell.fraction * cell.reset_amount
        potential -= cell.reset_amount * fires
        sent.append(cell.amplitude * fires)
    return sent, potential


@every_member
def test_fires_as_by_hand(member: Member) -> None:
    x, neuron = currents(member), member.make()
    sent, state = run(neuron, x)
    assert 0.1 < (sent > 0).double().mean() < 0.9
    for b in range(2):
        for c, leak in enumerate(member.leaks):
            expected, potential = by_hand(x[:, b, c].tolist(), leak, member.cell)
            assert sent[:, b, c].tolist() == pytest.approx(expected, rel=1e-15)
            left = float(state["0"]["membrane"][b, c]) * member.cell.reset_amount / member.unit
            assert left == pytest.approx(potential, rel=1e-9, abs=1e-12)


@every_member
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_the_share_of_spikes_is_the_drive_less_what_is_left_over(member: Member, steps: int) -> None:
    x, neuron = currents(member, steps), member.make()
    sent, state = run(neuron, x)
    begun = run(neuron, x[:1])
    rest = run(neuron, x[1:], begun[1]) if steps > 1 else begun
    assert torch.equal(rest[1]["0"]["membrane"], state["0"]["membrane"])
    for c, leak in enumerate(member.leaks):
        left = state["0"]["membrane"][:, c] / member.unit
        drive = neuron.normalised_rate(mean(x[..., c], leak)).detach()
        share = mean(sent[..., c], leak) / member.cell.amplitude
        torch.testing.assert_close(share, drive - left / total(steps, leak), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("neuron", [partial(IF, 0.5, rest=-0.5), partial(LIF, 5.0, threshold=0.5, rest=-0.25)])
def test_rates_around_a_loop(neuron: Callable[..., Neuron]) -> None:
    """`R a_1 = F x + Z[T-1] / Z[T] (W a'_2 + c) - v_1 / Z[T]`, with `a'` up to one step before the last."""
    first, last, steps = neuron(), neuron(), 12
    enter, back, forth = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    x, arrive = torch.rand(steps, 4, 5), Feedback(back, last)

    def forward(_: nn.Module, x: Tensor) -> Tensor:
        one = first(arrive(enter(x)))
        return torch.cat([one, last(forth(one))], 1)

    with torch.no_grad():
        sent, state = Network(Lambda(forward, enter=enter, arrive=arrive, first=first, forth=forth, last=last)).run(x)
        one, two = sent.split(6, dim=2)
        assert 0.05 < one.mean() < 0.95 and 0.05 < two.mean() < 0.95
        leak, reset_amount = float(first.leak), float(first.reset_amount)
        z, z_before = total(steps, leak), total(steps - 1, leak)
        drive = enter(mean(x, leak)) + z_before / z * back(mean(two[:-1], leak)) - state["first"]["membrane"] / z
        torch.testing.assert_close(reset_amount * mean(one, leak), drive, rtol=1e-13, atol=1e-13)
        drive = forth(mean(one, leak)) - state["last"]["membrane"] / z
        torch.testing.assert_close(reset_amount * mean(two, leak), drive, rtol=1e-13, atol=1e-13)


@every_member
def test_the_rate_map_is_a_clipped_line(member: Member) -> None:
    neuron, cell = member.make(), member.cell
    rate = (member.full * torch.tensor([-1.0, 0.0, 0.25, 0.875, 1.5, 4.0])).requires_grad_()
    share = torch.tensor([0.0, 0.0, 0.25, 0.875, 1.0, 1.0])
    torch.testing.assert_close(neuron.transfer(rate), cell.amplitude * share, rtol=1e-14, atol=0)
    pull = torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0, 11.0])
    (pull * neuron.transfer(rate)).sum().backward()
    assert rate.grad is not None
    slope = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 0.0]) * cell.slope
    torch.testing.assert_close(rate.grad, pull * slope, rtol=1e-14, atol=0)
    found = {name: float(p.grad) for name, p in neuron.named_parameters() if p.grad is not None}
    if member.factor is None:
        assert not found
    else:  # the share of spikes above the range is one, whatever the threshold; what they carry grows with it
        expected = member.factor * (7 + 11) * cell.amplitude / cell.reset_amount
        assert found == {"threshold": pytest.approx(expected, rel=1e-13)}


@pytest.mark.parametrize("name", ["if", "if, low rest", "dsr if", "dsr if, fixed"])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_a_constant_current_is_rounded_to_a_count(name: str, steps: int) -> None:
    member = FAMILY[name]
    cell, y = member.cell, 3 * torch.rand(1, 500) - 1
    sent, _ = run(member.make(), (member.full * y).expand(steps, 1, -1))
    count = (steps * y[0] + 1 - cell.fraction).floor().clamp(0, steps)
    assert torch.equal((sent[:, 0] > 0).sum(0).double(), count)
    error = (mean(sent[:, 0], 1.0) / cell.amplitude - y[0].clamp(0, 1)).abs().max()
    assert 0.9 < error * steps / max(cell.fraction, 1 - cell.fraction) <= 1 + 1e-9


@pytest.mark.parametrize("fraction", [1.0, 0.3])
@pytest.mark.parametrize("dt, steps", [(0.05, 20), (0.1, 5)])
def test_the_error_of_a_leaky_rate_is_bounded(fraction: float, dt: float, steps: int) -> None:
    beta, threshold = math.exp(-dt), 6 * dt
    x = threshold / (1 - beta) * torch.rand(1, 2000)
    sent, _ = run(DSRLIF(1.0, dt, threshold, fraction), x.expand(steps, 1, -1))
    error = (mean(sent[:, 0], beta) - (1 - beta) / dt * x[0]).abs().max()
    bound = max(fraction, 1 - fraction) * threshold / (dt * total(steps, beta))
    assert 0.9 * bound < error <= bound * (1 + 1e-9)


@pytest.mark.parametrize("make", [dsr_if, dsr_lif])
def test_scaling_a_layer_and_undoing_it_in_the_next_changes_nothing(make: Callable[..., Neuron]) -> None:
    """What enters and the threshold times 8, the next weight by 8: not a bit of the output changes."""
    plain, scaled = (mlp(make(), make()) for _ in range(2))
    for module in (plain, scaled):
        module.load_state_dict(weights("mlp", 0), strict=False)
    with torch.no_grad():
        for name, factor in {"0.weight": 8.0, "0.bias": 8.0, "1.threshold": 8.0, "2.weight": 1 / 8}.items():
            scaled.get_parameter(name).mul_(factor)
        x, _ = sample("mlp", 0, steps=20)
        (one, before), (other, after) = (Network(module).run(x) for module in (plain, scaled))
    assert torch.equal(one, other) and one.std() > 0.1
    assert torch.equal(before["1"]["membrane"], after["1"]["membrane"])


def unrolled(member: Member, params: Params, x: Tensor, y: Tensor) -> Params:
    """The gradient of the chain `mlp` through time, with potentials in volts and an attached threshold."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    cell, leak, potentials, losses = member.cell, member.leaks[0], {}, []
    for s in x:
        for synapse, site in (("0", "1"), ("2", "3")):
            threshold = leaves.get(f"{site}.threshold", torch.tensor(cell.reset_amount))
            current = F.linear(s, leaves[f"{synapse}.weight"], leaves[f"{synapse}.bias"])
            u = leak * potentials.get(site, 0.0) + cell.gain * current
            distance = u - cell.fraction * threshold
            fired = Spike.apply(distance if member.unit != 1 else distance / threshold)
            potentials[site] = u - threshold * fired.detach()
            s = cell.amplitude / cell.reset_amount * threshold * fired
        losses.append(F.cross_entropy(F.linear(s, leaves["4.weight"], leaves["4.bias"]), y))
    found = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    factors = [member.factor or 1.0 if name.endswith("threshold") else 1.0 for name in leaves]
    return {name: factor * grad for name, factor, grad in zip(leaves, factors, found)}


def chain(member: Member) -> nn.Module:
    module = mlp(member.make(), member.make())
    module.load_state_dict(weights("mlp", 0), strict=False)
    return module


@uniform_member
@pytest.mark.parametrize("chunk", [None, 2])
def test_bptt_is_its_explicit_program(member: Member, chunk: int | None) -> None:
    module, (x, y) = chain(member), sample("mlp", 0, steps=9)
    (update,) = learn(BPTT(chunk), module, x, y, CE)
    assert all(0.05 < rate < 0.95 for rate in update.rates.values()), update.rates
    expected = unrolled(member, dict(module.named_parameters()), x, y)
    assert ("1.threshold" in expected) == (member.factor is not None)
    assert_agree(collected(module), expected, 1e-10)
    assert all(grad.any() for grad in expected.values())


@uniform_member
def test_promises_are_kept(member: Member) -> None:
    silent = {f"{site}.threshold" for site in (1, 3)} if member.factor is not None else set()
    promises = {BPTT(): everywhere("mlp") | silent, OTTT(): last_layer("mlp"), SLTT(): readout("mlp")}
    for rule, expected in promises.items():
        found = certificate(chain(member), rule)
        assert found.ok, found.table()
        assert promised(found) == expected
        assert all(row.exact or row.relative_error > 1e-3 for row in found.rows), found.table()
        assert not any(row.vanishing for row in found.rows)


@pytest.mark.parametrize("name", ["if, low rest", "lif", "dsr if", "dsr lif"])
@pytest.mark.parametrize("rule", [BPTT(), SLTT(), OTTT()], ids=lambda rule: type(rule).__name__)
@pytest.mark.long
def test_rules_learn_with_them(name: str, rule: Rule) -> None:
    module, (x, y) = chain(FAMILY[name]), sample("mlp", 0, batch=8)
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    optimizer, losses = torch.optim.Adam(module.parameters(), 0.03), []
    for _ in range(30):
        losses.append(0.0)
        for update in rule.updates(Network(module), x, y, CE):
            losses[-1] += float(update.loss)
            optimizer.step()
            optimizer.zero_grad()
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0], losses
    assert all(not torch.equal(p, before[key]) for key, p in module.named_parameters())


@every_member
def test_rates_count_spikes_and_not_what_they_carry(member: Member) -> None:
    x, net = currents(member), Network(nn.Sequential(member.make()))
    run = net.start(x)
    sent = run.advance(x)
    assert run.rates()["0"] == pytest.approx(float((sent > 0).double().mean()), rel=1e-6)


def test_spikes_of_amplitude_one_are_known_to_be_binary() -> None:
    class Own(IF):
        def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
            return super().scan(x, state, through_time)

    class Leaky(Sigmoid):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) + 0.1

    yes = [
        IF(),
        LIF(rest=-1.0, gain=0.5),
        DSRIF(1.0, learn_threshold=False),
        DSRLIF(1, 0.5, 0.5, learn_threshold=False),
    ]
    no = [IF(amplitude=2.0), LIF(amplitude=-1.0), DSRIF(), DSRIF(1.0), DSRLIF(), Own(), IF(surrogate=Leaky())]
    assert [neuron.binary for neuron in (*yes, *no)] == [True] * 4 + [False] * 7
    for neuron in yes:
        assert set(run(neuron, 2 * torch.rand(9, 2, 3) - 0.5)[0].unique().tolist()) == {0.0, 1.0}


@every_member
def test_says_what_it_is(member: Member) -> None:
    neuron, cell = member.make(), member.cell
    found = [
        torch.as_tensor(v).item()
        for v in (neuron.reset_amount, neuron.firing_fraction, neuron.gain, neuron.spike_amplitude)
    ]
    assert found == pytest.approx([cell.reset_amount, cell.fraction, cell.gain, cell.amplitude], rel=1e-14)
    assert torch.as_tensor(neuron.leak).expand(3).tolist() == pytest.approx(list(member.leaks), rel=1e-14)
    assert [name for name, _ in neuron.named_parameters()] == ([] if member.factor is None else ["threshold"])
    assert ("learn_threshold=True" in repr(neuron)) == (member.factor is not None)


def test_their_text() -> None:
    shown = r"IF(threshold=0.5, rest=-0.5, gain=0.25, amplitude=2, reset='subtract', surrogate=Sigmoid(alpha=4.0))"
    assert repr(IF(0.5, rest=-0.5, gain=0.25, amplitude=2)) == shown
    assert repr(DSRIF()) == "DSRIF(threshold=6, learn_threshold=True, firing_fraction=0.5, floor=0.01)"
    shown = "DSRLIF(leak=0.9512, threshold=0.3, firing_fraction=0.3, floor=0.0005)"
    assert repr(DSRLIF(learn_threshold=False)) == shown


@pytest.mark.parametrize("make", [dsr_if, dsr_lif])
def test_a_threshold_is_a_parameter_like_any_other(make: Callable[..., Neuron]) -> None:
    neuron, other = make(), make()
    neuron.get_parameter("threshold").data.fill_(0.5)
    other.load_state_dict(neuron.state_dict())
    assert torch.as_tensor(other.reset_amount).item() == 0.5 and list(neuron.state_dict()) == ["threshold"]
    fixed = make(learn_threshold=False)
    assert not fixed.state_dict() and fixed.threshold == make().get_parameter("threshold").item()
    for dtype in (torch.float16, torch.float32):
        x = torch.rand(9, 2, 3).to(dtype)
        assert run(make().to(dtype), x)[0].dtype == run(make(learn_threshold=False), x)[0].dtype == dtype


@pytest.mark.parametrize("kind, floor", [(DSRIF, 0.01), (DSRLIF, 0.0005)])
def test_a_threshold_does_not_fall_below_its_floor(kind: type[DSRIF | DSRLIF], floor: float) -> None:
    below, at = kind(), kind(threshold=floor)
    threshold = below.get_parameter("threshold")
    threshold.data.fill_(-3.0)
    x = 4 * floor * torch.rand(20, 2, 3)
    assert torch.equal(run(below, x)[0], run(at, x)[0]) and run(at, x)[0].any()
    below.transfer(torch.tensor(1e3)).backward()
    assert threshold.grad is not None and threshold.grad > 0  # it can climb again
    assert threshold == -3.0
    below.project()
    assert threshold == floor
    threshold.data.fill_(7.0)
    below.project()
    assert threshold == 7.0
    fixed = kind(learn_threshold=False)
    fixed.project()
    assert fixed.reset_amount == kind().reset_amount


def test_a_fixed_threshold_leaves_the_gradients_of_weights_as_they_are() -> None:
    """Also of rules that differentiate spikes: the surrogate sees the potential in units of the threshold."""
    for make in (partial(DSRIF, 3.0), dsr_lif):
        trained, fixed = chain(Member(make, Cell())), chain(Member(partial(make, learn_threshold=False), Cell()))
        for module in (trained, fixed):
            learn(BPTT(), module, *sample("mlp", 0), CE)
        found = collected(trained)
        assert_agree(collected(fixed), {name: found[name] for name in everywhere("mlp")}, 1e-12)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"IF\(threshold=1.0, rest=1.0, reset='subtract'\): .* rest < threshold, or"):
        IF(rest=1.0)
    with pytest.raises(ConfigError, match=r"LIF\(.*rest=-1.0, reset='zero'\).* a hard reset sets the potential to 0"):
        LIF(rest=-1.0, reset="zero")
    with pytest.raises(ConfigError, match=r"IF\(amplitude=0.0\): .* the layers behind receive nothing"):
        IF(amplitude=0.0)
    for fraction in (0.0, 1.1):
        with pytest.raises(ConfigError, match=rf"DSRIF\(firing_fraction={fraction}\): .* share of .* at most 1"):
            DSRIF(firing_fraction=fraction)
    for floor in (0.0, 0.4):
        with pytest.raises(ConfigError, match=rf"DSRLIF\(threshold=0.3, floor={floor}\).* 0 < floor <= threshold"):
            DSRLIF(floor=floor)
    for tau, dt in ((0.0, 0.1), (1.0, 0.0)):
        with pytest.raises(ConfigError, match=rf"DSRLIF\(tau={tau}, dt={dt}\): both are times in the same units"):
            DSRLIF(tau, dt)


SENDERS: dict[str, Callable[..., Neuron]] = {
    "one": LIF,
    "amplitude": partial(LIF, amplitude=3.0),
    "negative": partial(LIF, amplitude=-0.25),
    "noise": partial(LIF, noise=0.05),
    "more noise than spike": partial(LIF, noise=2.0),
    "both": partial(LIF, amplitude=-3.0, noise=0.5),
    "hard": partial(LIF, reset="zero", amplitude=2.0, noise=0.5),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("kind", SENDERS)
def test_rates_count_spikes_whatever_they_are_sent_as(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(12, 2, 40).to(dtype)
    alone = Network(nn.Sequential(LIF(reset="zero" if kind == "hard" else "subtract")))
    expected = float((alone(x) != 0).double().mean())
    for size in (1, 5, 12):
        run = Network(nn.Sequential(SENDERS[kind]())).start(x)
        for chunk in x.split(size):
            run.advance(chunk)
        assert run.rates()["0"] == pytest.approx(expected, abs=1e-6) and expected > 0.1


def test_a_layer_that_never_fires_has_the_rate_zero_with_noise_too() -> None:
    for neuron in (LIF(), LIF(noise=0.3), LIF(amplitude=-2.0, noise=0.3)):
        run = Network(nn.Sequential(neuron)).start(x := torch.zeros(5, 2, 9))
        run.advance(x)
        assert run.rates() == {"0": 0.0}


def test_a_spike_of_the_other_sign_is_a_spike() -> None:
    class Ternary(Neuron):
        scan_uses = frozenset({"noise"})

        def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
            return x.round().clamp(-1, 1) + (0.01 if self.noise else 0.0), {}

    x = torch.tensor([1.0, -1.0, 0.0, -1.0]).view(4, 1, 1)
    for noise in (0.0, 0.1):
        neuron = Ternary(
            threshold=1.0, reset="zero", detach_reset=True, surrogate=Sigmoid(4.0), inplace=False, noise=noise
        )
        run = Network(nn.Sequential(neuron)).start(x)
        run.advance(x)
        assert run.rates() == {"0": 0.75}
