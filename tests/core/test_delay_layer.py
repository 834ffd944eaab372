"""The layer of synaptic delays: when spikes arrive, what it carries, and what it refuses."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, IncompatibleRule, OutsideRun, ShapeError
from spikewright.kernels.delays import kernel_slope
from spikewright.layers import Feedback, SynapticDelay
from spikewright.network import Network
from spikewright.neurons import IF, LIF, AlphaLIF
from spikewright.rules import DSR, IDE, SPIDE, Rule
from spikewright.temporal import SiteState
from tests.nets import sample
from tests.rules.support import learn

STEPS = 12
KINDS: list[dict] = [
    {},
    {"delay_grad": "exact", "tau": 4.0},
    {"delay_grad": "reference", "tau": 4.0},
    {"rounding": False},
    {"delay_grad": "exact", "tau": 4.0, "rounding": False},
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())) or "plain")


def inside(whole: int, longest: int) -> float:
    """A delay that is rounded to a whole one, the first and the last possible included."""
    return min(max(whole, 0.25), longest - 0.25)


def sent(at: int, steps: int = STEPS) -> Tensor:
    """One spike, `[time, 1, 1]`."""
    return torch.eye(steps)[at].view(steps, 1, 1)


def first_spike(module: nn.Module, x: Tensor) -> Tensor:
    """The step at which every neuron of one sample fires first; the number of steps if it does not."""
    spikes = Network(module).run(x)[0][:, 0]
    return torch.where(spikes.any(0), spikes.argmax(0), len(x))


@every_kind
@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("whole", range(5))
def test_a_spike_arrives_exactly_so_many_steps_later(whole: int, at: int, kind: dict) -> None:
    delay = SynapticDelay(1, init=inside(whole, 4), **kind)
    if not delay.rounding:  # exactly a whole number, the ends included
        delay.delay_logit.data.fill_({0: -1000.0, 4: 1000.0}.get(whole, delay.delay_logit.item()))
        delay.delay_logit.data += {1: 1e-14, 3: 1e-14}.get(whole, 0.0)
    arrived, _ = delay.scan(sent(at), {}, True)
    torch.testing.assert_close(arrived, sent(at + whole), rtol=0, atol=1e-12)


def test_half_a_step_is_rounded_to_the_even_one() -> None:
    for longest, whole in ((1, 0), (3, 2), (5, 2), (7, 4)):
        delay = SynapticDelay(1, longest)
        delay.delay_logit.data.zero_()
        assert delay.delay.item() == longest / 2
        assert torch.equal(delay.scan(sent(0), {}, True)[0], sent(whole))


def test_before_the_start_there_were_no_spikes_and_late_ones_do_not_arrive() -> None:
    arrived, _ = SynapticDelay(1, init=3.0).scan(torch.ones(5, 1, 1), {}, True)
    assert arrived.flatten().tolist() == [0, 0, 0, 1, 1]
    assert not SynapticDelay(1, init=3.0).scan(torch.ones(3, 1, 1), {}, True)[0].any()


@pytest.mark.parametrize("shape", [6, (6,), (6, 1, 1), (1, 4, 1), (6, 4, 5), (4, 5), (5,)])
def test_delays_of_channels_and_of_places(shape: int | tuple[int, ...]) -> None:
    if shape == (6,):
        x, wide = torch.randn(STEPS, 2, 6), (6,)
    else:
        x, wide = torch.randn(STEPS, 2, 6, 4, 5), (6, 4, 5)
    delay = SynapticDelay(shape)
    whole = delay.delay.detach().round().long()
    whole = (whole.view(6, 1, 1) if isinstance(shape, int) else whole).expand(wide).flatten()
    arrived, before = delay.scan(x, {}, True)[0].flatten(2), x.flatten(2)
    assert len(set(whole.tolist())) > 1
    for i, d in enumerate(whole.tolist()):
        assert torch.equal(arrived[d:, :, i], before[: STEPS - d, :, i]) and not arrived[:d, :, i].any()


@every_kind
@pytest.mark.parametrize("pieces", [1, 2, 5, 7])
def test_pieces_make_the_whole_and_leave_the_state_they_were_given(pieces: int, kind: dict) -> None:
    delay, x, error = SynapticDelay(6, **kind), torch.randn(STEPS, 2, 6), torch.randn(STEPS, 2, 6)
    whole, last = delay.scan(x, {}, True)
    (expected,) = torch.autograd.grad(whole, delay.delay_logit, error)
    outputs, state = list[Tensor](), SiteState()
    for piece in x.split(pieces):
        before, given = state, {name: value.clone() for name, value in state.items()}
        output, state = delay.scan(piece, state, True)
        outputs.append(output)
        assert all(torch.equal(before[name], value) for name, value in given.items())
    assert torch.equal(torch.cat(outputs), whole)
    assert state.keys() == last.keys() and all(torch.equal(state[name], last[name]) for name in last)
    (found,) = torch.autograd.grad(torch.cat(outputs), delay.delay_logit, error)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@every_kind
@pytest.mark.parametrize("pieces", [1, 5, STEPS])
@pytest.mark.parametrize("through_time", [False, True])
def test_where_the_error_goes(through_time: bool, pieces: int, kind: dict) -> None:
    """Back by the delay; or, where time is cut, to the same step and only through channels without delay."""
    delay, x, error = SynapticDelay(6, **kind), torch.randn(STEPS, 2, 6), torch.randn(STEPS, 2, 6)
    delay.delay_logit.data = torch.tensor([-1000.0, 0.0, 1000.0, 0.6, -2.5, 1.0])  # 0, 2, 4, and others
    x.requires_grad_()
    outputs, state = list[Tensor](), SiteState()
    for piece in x.split(pieces):
        output, state = delay.scan(piece, state, through_time)
        outputs.append(output)
        assert through_time or not any(value.requires_grad for value in state.values())
    back, own = torch.autograd.grad(torch.cat(outputs), (x, delay.delay_logit), error)
    assert own[[1, 3, 4, 5]].all()
    if through_time:
        assert all(back[: STEPS - 5, :, c].any() for c in range(6))
        assert torch.equal(back[:-4, :, 2], error[4:, :, 2]) and torch.equal(back[:-2, :, 1], error[2:, :, 1])
    else:
        at_once = [0, 4]  # the second of them is 0.3, of which without rounding a share arrives at once
        assert not back[:, :, [1, 2, 3, 5]].any()
        scale = back[:, :, at_once] / error[:, :, at_once]
        torch.testing.assert_close(scale, scale[0, 0].expand_as(scale), rtol=1e-12, atol=1e-12)
        assert scale[0, 0, 0] == 1 and (scale[0, 0, 1] == 1) == delay.rounding


def test_a_delay_that_changes_on_the_way_reads_what_was_sent_so_long_ago() -> None:
    delay, x, state = SynapticDelay(1, delay_grad="reference", tau=4.0), torch.randn(STEPS, 2, 1), SiteState()
    slopes, _ = kernel_slope(x, 4.0)
    for t, d in enumerate([0, 3, 1, 4, 2, 2, 0, 4, 1, 3, 4, 0]):
        delay.delay_logit.data = torch.logit(torch.tensor([inside(d, 4) / 4]))
        arrived, state = delay.scan(x[t : t + 1], state, False)
        (grad,) = torch.autograd.grad(arrived.sum(), delay.delay_logit)
        expected = slopes[t - d].sum() if d <= t else torch.zeros(())
        assert torch.equal(arrived[0], x[t - d] if d <= t else torch.zeros(2, 1))
        torch.testing.assert_close(grad[0] / (delay.delay * (1 - delay.delay / 4))[0], expected)


def test_a_state_is_no_view_of_the_chunk() -> None:
    _, state = SynapticDelay(6, delay_grad="reference", tau=4.0).scan(torch.randn(100, 2, 6), {}, False)
    assert {name: value.untyped_storage().nbytes() // 8 for name, value in state.items()} == {
        "past": 60,
        "slopes": 60,
        "first": 12,
        "second": 12,
    }


def relay(delays: list[int], longest: int, weight: float = 3.0) -> nn.Module:
    """A chain of neurons; a single spike of weight 2.943 or more makes each of them fire at once."""
    layers = []
    for d in delays:
        synapse = nn.Linear(1, 1, bias=False)
        synapse.weight.data.fill_(weight)
        layers += [SynapticDelay(1, longest, init=inside(d, longest)), synapse, AlphaLIF()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("delays", [[0, 0, 0], [1, 2], [4, 0, 3], [2, 2, 2, 2], [6, 5]])
def test_a_chain_fires_after_the_sum_of_its_delays(delays: list[int]) -> None:
    for at in (0, 1):
        latency = int(first_spike(relay(delays, 6), sent(at))) - at
        assert latency == min(sum(delays), STEPS - at)
    assert int(first_spike(relay(delays, 6, weight=1.5), sent(0))) == STEPS


@pytest.mark.parametrize("seed", range(20))
def test_a_recurrent_graph_fires_after_the_shortest_path(seed: int) -> None:
    """Feedback brings the spikes of the step before, so an edge from u costs the delay of u and one step."""
    source, nodes, longest = torch.Generator().manual_seed(seed), 8, 6
    edges = torch.rand(nodes, nodes, generator=source) < 0.25  # [to, from]
    delays = torch.randint(longest + 1, (nodes,), generator=source).tolist()
    synapse, neuron = nn.Linear(nodes, nodes, bias=False), AlphaLIF()
    synapse.weight.data = 3.0 * edges.double()
    delay = SynapticDelay(nodes, longest, init=[inside(d, longest) for d in delays])
    x = torch.zeros(STEPS, 1, nodes)
    x[0, 0, 0] = 3.0
    distance = [0, *[STEPS] * (nodes - 1)]
    for _ in range(nodes):
        for to, frm in edges.nonzero().tolist():
            distance[to] = min(distance[to], distance[frm] + delays[frm] + 1)
    found = first_spike(nn.Sequential(Feedback(nn.Sequential(delay, synapse), neuron), neuron), x)
    assert found.tolist() == distance


def test_one_delay_at_two_places_has_two_pasts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.delay, self.neuron = SynapticDelay(1, init=2.0), IF()

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(self.delay(self.delay(x)))

    assert first_spike(Twice(), sent(1)).tolist() == [5]


def test_delays_stay_between_none_and_the_longest() -> None:
    delay = SynapticDelay(3, max_delay=2)
    delay.delay_logit.data = torch.tensor([-50.0, 0.0, 50.0])
    torch.testing.assert_close(delay.delay, torch.tensor([0.0, 1.0, 2.0]))
    with torch.no_grad():
        wide = SynapticDelay(4000, max_delay=8).delay
    assert 0 < wide.min() < 1 and 7 < wide.max() < 8 and abs(wide.mean() - 4) < 0.2


def test_starts_where_it_is_told() -> None:
    torch.testing.assert_close(SynapticDelay(3, init=1.5).delay, torch.full((3,), 1.5))
    torch.testing.assert_close(SynapticDelay(3, init=[0.5, 1.5, 3.9]).delay, torch.tensor([0.5, 1.5, 3.9]))
    torch.testing.assert_close(SynapticDelay((2, 3), init=torch.ones(2, 3)).delay, torch.ones(2, 3))


def test_frozen_delays_transmit_the_same_and_take_no_gradient() -> None:
    delay, x = SynapticDelay(6), torch.randn(STEPS, 2, 6)
    expected, _ = delay.scan(x, {}, True)
    found, _ = delay.requires_grad_(False).scan(x, {}, True)
    assert torch.equal(found, expected) and not found.requires_grad


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_keeps_the_dtype_of_what_arrives(dtype: torch.dtype, kind: dict) -> None:
    for delay in (SynapticDelay(6, **kind).float(), SynapticDelay(6, **kind).to(dtype)):
        x = torch.randn(STEPS, 2, 6).to(dtype)
        arrived, state = delay.scan(x, {}, True)
        assert arrived.dtype == state["past"].dtype == dtype
        again, _ = delay.scan(x, state, True)
        again.sum().backward()
        assert delay.delay_logit.grad is not None and delay.delay_logit.grad.isfinite().all()


@pytest.mark.parametrize("rule", [DSR(), IDE(), SPIDE()], ids=lambda rule: type(rule).__name__)
def test_rules_that_learn_from_rates_refuse_it(rule: Rule) -> None:
    module = nn.Sequential(nn.Linear(8, 6), LIF(), SynapticDelay(6), nn.Linear(6, 4)).double()
    with pytest.raises(IncompatibleRule, match="'2' is SynapticDelay, a layer with a memory of its own"):
        learn(rule, module, *sample("mlp", 0))


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"SynapticDelay\(max_delay=0\): the longest delay is at least one step"):
        SynapticDelay(3, max_delay=0)
    for init in (0.0, 4.0, -1.0, math.nan, [1.0, 2.0, 5.0]):
        with pytest.raises(ConfigError, match=r"start strictly between 0 and 4. .* 0.25 arrives at once, 3.75 after 4"):
            SynapticDelay(3, init=init)
    with pytest.raises(ConfigError, match=r"SynapticDelay\(init=<\[2\]>\): give one number, or one for every"):
        SynapticDelay(3, init=[1.0, 2.0])
    with pytest.raises(ConfigError, match=r"SynapticDelay\(delay_grad='exact', tau=None\): .* jump when a spike arriv"):
        SynapticDelay(3, delay_grad="exact")
    with pytest.raises(ConfigError, match=r"'reference', rounding=False\): a delay that is not rounded has a"):
        SynapticDelay(3, delay_grad="reference", tau=4.0, rounding=False)


def test_what_arrives_has_to_fit() -> None:
    with pytest.raises(ShapeError, match=r"delays for 5 channels, but its input has the shape \[2, 6\]"):
        SynapticDelay(5).scan(torch.ones(3, 2, 6), {}, True)
    with pytest.raises(ShapeError, match=r"delays for 1 channels, but .* \[2\]"):
        SynapticDelay(1).scan(torch.ones(3, 2), {}, True)
    for shape in ((5,), (3, 6), (2, 1, 6)):
        with pytest.raises(ShapeError, match=r"do not broadcast to its input, \[2, 2, 6\]"):
            SynapticDelay(shape).scan(torch.ones(3, 2, 2, 6), {}, True)
    with pytest.raises(OutsideRun, match=r"SynapticDelay was called outside a run, with a tensor of shape \[2, 6\]"):
        SynapticDelay(6)(torch.ones(2, 6))


def test_its_text() -> None:
    shown = [repr(SynapticDelay(3, **kind)) for kind in KINDS]
    assert shown == [
        "SynapticDelay(3, max_delay=4, delay_grad='finite_difference')",
        "SynapticDelay(3, max_delay=4, delay_grad='exact', tau=4)",
        "SynapticDelay(3, max_delay=4, delay_grad='reference', tau=4)",
        "SynapticDelay(3, max_delay=4, delay_grad='finite_difference', rounding=False)",
        "SynapticDelay(3, max_delay=4, delay_grad='exact', tau=4, rounding=False)",
    ]
    assert repr(SynapticDelay((3, 1))).startswith("SynapticDelay((3, 1), max_delay=4")
    assert all(a != b for a, b in pairwise(shown))
