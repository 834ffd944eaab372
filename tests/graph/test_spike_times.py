"""When spikes arrive: what follows from the equations alone, with one neuron a node and delays set by hand."""

import heapq
import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from spikewright.graph.dynamics import AlphaDynamics
from spikewright.graph.forward import LONGEST, Propagation
from spikewright.graph.messages import native
from spikewright.graph.propagation import propagate, spikes
from spikewright.graph.structure import RelationalGraph
from spikewright.surrogate import Surrogate

TAU, THRESHOLD = 4.0, 2.0
RHO, GAIN = math.exp(-1 / TAU), math.e / TAU
ENOUGH = THRESHOLD / GAIN
"""Weight of a spike that fires its target at once."""

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture(params=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(native, "available", lambda x: False)
    elif not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")


def response(k: int) -> float:
    """Of the membrane, k steps after a spike has arrived over a weight of 1."""
    return GAIN * (k + 1) * RHO**k


def run(
    edges: list[tuple[int, int]],
    delays: list[int],
    weight: float | Tensor = 1.01 * ENOUGH,
    bias: float = 0.0,
    steps: int = 12,
    current: float = THRESHOLD,
    nodes: int = 8,
) -> Tensor:
    """Spikes of one query from node 0, `[T, N]`; every edge (source, target) has a delay of its own."""
    rows = [(source, kind, target) for kind, (source, target) in enumerate(edges)]
    graph = RelationalGraph.of_edges(torch.tensor(rows, dtype=torch.int64).reshape(-1, 3), nodes, max(len(rows), 1))
    weights = torch.as_tensor(weight, dtype=torch.float64).expand(graph.relations)
    propagation = Propagation(graph, torch.tensor([0]), AlphaDynamics(steps), lambda m, last: m + bias, LONGEST)
    drive = torch.full((1, 1), current, dtype=torch.float64)
    delay = torch.tensor([*delays, 0][: graph.relations], dtype=torch.float64)
    return spikes(propagation, drive, delay.view(-1, 1, 1), weights.reshape(-1, 1, 1))[:, :, 0, 0]


def first(fired: Tensor) -> list[float]:
    """The step of the first spike of every node; infinity if there is none."""
    return [float(times[0]) if len(times := column.nonzero()) else math.inf for column in fired.T]


def shortest(edges: list[tuple[int, int]], costs: list[int], nodes: int = 8) -> list[float]:
    """Dijkstra's algorithm, from node 0."""
    lengths = [math.inf] * nodes
    queue = [(0, 0)]
    while queue:
        length, node = heapq.heappop(queue)
        if length < lengths[node]:
            lengths[node] = length
            for (source, target), cost in zip(edges, costs):
                if source == node:
                    heapq.heappush(queue, (length + cost, target))
    return lengths


def random_graph(seed: int, edges: int = 12) -> list[tuple[int, int]]:
    return torch.randint(8, (edges, 2), generator=torch.Generator().manual_seed(seed)).tolist()


def test_the_first_spike_tells_the_shortest_path() -> None:
    """Oracle 1, on 200 graphs: an edge costs its delay and one step; what is further than T - 1 does not fire."""
    seen = set()
    for seed in range(200):
        generator = torch.Generator().manual_seed(1000 + seed)
        edges, delays = random_graph(seed), torch.randint(LONGEST + 1, (12,), generator=generator).tolist()
        weight = ENOUGH * (1 + 1e-9 + torch.rand(12, generator=generator, dtype=torch.float64))
        lengths = shortest(edges, [d + 1 for d in delays])
        assert first(run(edges, delays, weight)) == [n if n <= 11 else math.inf for n in lengths]
        seen.update(lengths)
    assert {*range(12), math.inf} <= seen and max(seen - {math.inf}) > 11


def test_without_delays_the_first_spike_counts_hops() -> None:
    """Oracle 5."""
    for seed in range(50):
        edges = random_graph(seed)
        assert first(run(edges, [0] * 12)) == shortest(edges, [1] * 12)


def test_a_longer_delay_shifts_the_first_spike_by_the_hops() -> None:
    chain, delays = [(n, n + 1) for n in range(5)], [2, 0, 1, 0, 3]
    one, two = (first(run(chain, [d + more for d in delays], steps=30, nodes=6)) for more in (0, 1))
    assert one == [0, 3, 4, 6, 7, 11] and two == [a + hops for hops, a in enumerate(one)]


@pytest.mark.parametrize("delay", range(LONGEST + 1))
def test_what_left_too_late_never_arrives(delay: int) -> None:
    """Oracle 2: nothing arrives by step t with a delay of t or more."""
    assert first(run([(0, 1)], [delay], steps=delay + 1, nodes=2)) == [0, math.inf]
    assert first(run([(0, 1)], [delay], steps=delay + 2, nodes=2)) == [0, delay + 1]


def test_the_weight_of_one_spike_decides_when_it_fires() -> None:
    """Oracle 3.  A weak current fires the source at step 10 and not again before step 21."""
    weak = 0.48
    assert run([], [], current=weak, steps=21, nodes=1).nonzero()[:, 0].tolist() == [10]
    thresholds = [THRESHOLD / response(k) for k in range(4)]
    assert thresholds == pytest.approx([2.943, 1.890, 1.617, 1.558], abs=6e-4) and response(4) < response(3)
    for k, threshold in enumerate(thresholds):
        above = thresholds[k - 1] if k else 4.0
        for weight, delay in ((threshold * (1 + 1e-12), k), (above * (1 - 1e-12), k), (threshold * (1 - 1e-12), k + 1)):
            found = first(run([(0, 1)], [0], weight, current=weak, steps=21, nodes=2))[1]
            assert found == (11 + delay if delay < 4 else math.inf)


@dataclass(frozen=True)
class Watching(Surrogate):
    """Keeps what it is asked about, the last step first."""

    seen: list[Tensor] = field(default_factory=list)

    def slope(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return torch.zeros_like(x)


def potentials(arriving: Tensor) -> Tensor:
    """Of a node over time, `[T, columns]`, if that much arrives at steps 1 to T - 1, `[T, columns]`."""
    steps, columns = arriving.shape
    step = iter([*range(1, steps), *reversed(range(1, steps))])  # there, and back
    watching = Watching()
    graph = RelationalGraph.of(torch.zeros(0, 3, dtype=torch.int64), 1, 1)

    def synapses(messages: Tensor, last: Tensor | None) -> Tensor:
        return messages * 0 + arriving[next(step)]

    propagation = Propagation(graph, torch.tensor([0]), AlphaDynamics(steps, surrogate=watching), synapses, 0)
    drive = torch.zeros(1, columns, dtype=torch.float64, requires_grad=True)
    propagate(propagation, drive, drive.new_zeros(2, 1, columns)).sum().backward()
    return torch.stack(watching.seen[::-1])[:, 0, 0] + THRESHOLD


def test_the_membrane_answers_with_an_alpha_function_and_adds_answers_up() -> None:
    """Oracle 4."""
    steps, generator = 14, torch.Generator().manual_seed(0)
    impulse, many = (torch.zeros(steps, 1, dtype=torch.float64) for _ in range(2))
    impulse[3] = 1.0
    answers = [0.0] * 3 + [response(k) for k in range(steps - 3)]
    torch.testing.assert_close(potentials(impulse)[:, 0].tolist(), answers, rtol=0, atol=1e-14)
    assert answers[3:9] == pytest.approx([0.680, 1.059, 1.237, 1.284, 1.250, 1.168], abs=6e-4)
    many[1:, 0] = 0.2 * torch.randn(steps - 1, generator=generator, dtype=torch.float64)
    summed = [sum((float(many[k]) * response(t - k) for k in range(1, t + 1)), 0.0) for t in range(steps)]
    assert max(summed) < THRESHOLD
    torch.testing.assert_close(potentials(many)[:, 0].tolist(), summed, rtol=0, atol=1e-14)


def test_a_spike_resets_the_membrane_and_not_the_current() -> None:
    """The current goes on where it was: after a reset the membrane starts from zero with what is left of it."""
    arriving = torch.zeros(8, 1, dtype=torch.float64)
    arriving[2] = 4.0
    current, membrane, expected = 0.0, 0.0, []
    for x in arriving[:, 0].tolist():
        current = RHO * current + GAIN * x
        membrane = RHO * membrane + current
        expected.append(membrane)
        membrane = 0.0 if membrane >= THRESHOLD else membrane
    assert sum(u >= THRESHOLD for u in expected) == 3
    torch.testing.assert_close(potentials(arriving)[:, 0].tolist(), expected, rtol=0, atol=1e-14)


def test_it_fires_at_equality() -> None:
    assert first(run([], [], current=THRESHOLD, nodes=1)) == [0]
    assert first(run([], [], current=math.nextafter(THRESHOLD, 0), nodes=1, steps=2)) == [1]


def test_a_bias_fires_what_nothing_reaches() -> None:
    """Oracle 2, the exception: it settles at b GAIN / (1 - RHO)^2, 13.9 b."""
    critical = THRESHOLD * (1 - RHO) ** 2 / GAIN
    assert critical == pytest.approx(0.144, abs=6e-4)
    assert first(run([], [], bias=0.999 * critical, steps=200, nodes=2))[1] == math.inf
    assert 20 < first(run([], [], bias=1.001 * critical, steps=200, nodes=2))[1] < 200


def test_an_edge_that_inhibits_can_only_delay() -> None:
    """Oracle 4: the k-th spike comes no earlier; some come later, some never."""
    edges, later, fewer = [(0, 1)] * 4, 0, 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        delays = torch.randint(LONGEST + 1, (4,), generator=generator).tolist()
        weight = torch.rand(4, generator=generator, dtype=torch.float64)
        weight[3] = 0.0
        without = run(edges, delays, weight, nodes=2, steps=20)[:, 1].nonzero()[:, 0].tolist()
        weight[3] = -0.7
        with_it = run(edges, delays, weight, nodes=2, steps=20)[:, 1].nonzero()[:, 0].tolist()
        assert len(with_it) <= len(without) and all(a >= b for a, b in zip(with_it, without))
        later += any(a > b for a, b in zip(with_it, without))
        fewer += len(with_it) < len(without)
    assert later > 10 and fewer > 10


@pytest.mark.parametrize(("steps", "decay"), [(10, 0.95), (7, 0.5), (1, 0.9), (20, 1.0)])
def test_shares_of_steps(steps: int, decay: float) -> None:
    """Oracle 9: they sum to 1, so that a neuron which fires at every step is read as 1, and earlier counts more."""
    shares = AlphaDynamics(steps, decay=decay).shares
    assert len(shares) == steps and sum(shares) == pytest.approx(1, abs=1e-15)
    assert all(later == pytest.approx(decay * earlier) for earlier, later in pairwise(shares))


def test_what_is_read_of_a_run() -> None:
    graph = RelationalGraph.of_edges(torch.tensor([[0, 0, 1], [1, 0, 2]]), 3, 1)
    propagation = Propagation(graph, torch.tensor([0]), AlphaDynamics(), lambda m, last: 1.01 * ENOUGH * m, LONGEST)
    drive, delays = torch.full((1, 1), THRESHOLD).double(), torch.ones(1, 1, 1)
    read, fired = propagate(propagation, drive, delays), spikes(propagation, drive, delays)
    shares = torch.tensor(propagation.dynamics.shares, dtype=torch.float64)
    torch.testing.assert_close(read, torch.einsum("t,tnbd->nbd", shares, fired.double()), rtol=0, atol=1e-15)
    assert float(read[0]) == pytest.approx(1, abs=1e-14) and read[0] > read[1] > read[2] > 0
