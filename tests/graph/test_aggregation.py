"""Principal neighbourhood aggregation: against a loop over nodes, and compiled against plain."""

import pytest
import torch
from torch import Tensor

from spikewright.graph.models.aggregation import principal
from spikewright.graph.structure import RelationalGraph
from spikewright.kernels import native


def explicit(graph: RelationalGraph, messages: Tensor, edge_weight: Tensor, boundary: Tensor | None) -> Tensor:
    rows, degrees = [], []
    for node in range(graph.nodes):
        edges = [e for e, t in enumerate(graph.targets.tolist()) if t == node and edge_weight[e]]
        arrived = [messages[graph.pairs[e]] for e in edges] + ([] if boundary is None else [boundary[node]])
        some = torch.stack(arrived) if arrived else torch.zeros(1, *messages.shape[1:], dtype=messages.dtype)
        deviation = (some.square().mean(0) - some.mean(0) ** 2).clamp(min=1e-6).sqrt()
        rows.append(torch.cat([some.mean(0), some.amax(0), some.amin(0), deviation], -1))
        degrees.append(len(edges) + 1.0)
    features, scale = torch.stack(rows), torch.tensor(degrees, dtype=messages.dtype).log()[:, None, None]
    scale = scale / scale.mean()
    return torch.cat([features, features * scale, features / scale.clamp(min=1e-2)], -1)


@pytest.fixture(params=[True, False], ids=["compiled", "plain"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With compiled kernels, and without."""
    if not request.param:
        monkeypatch.setattr(native, "available", lambda x: False)
    elif not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("levels", [None, 2, 3], ids=["distinct", "spikes", "few levels"])
def test_it_is_what_a_loop_over_nodes_computes(form: None, levels: int | None, bounded: bool) -> None:
    """Also where messages are equal and where edges are parallel; extremes share their gradient."""
    generator = torch.Generator().manual_seed(1)
    edges = torch.randint(7, (40, 3), generator=generator)
    edges[:, 1] %= 2
    edges = torch.cat([edges, edges[:9], edges[:4]])
    graph = RelationalGraph.of_edges(edges, 8, 2)  # node 7 has no edge
    edge_weight = (torch.rand(len(graph.targets), generator=generator) > 0.3).double()

    def draw(*shape: int) -> Tensor:
        if levels is None:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)
        return torch.randint(levels, shape, generator=generator).double()

    messages = draw(len(graph.sources), 3, 4).requires_grad_()
    boundary = draw(8, 3, 4).requires_grad_() if bounded else None
    readout = torch.randn(8, 3, 48, generator=generator, dtype=torch.float64)
    inputs = [t for t in (messages, boundary) if t is not None]
    found, expected = (f(graph, messages, edge_weight, boundary) for f in (principal, explicit))
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad((f * readout).sum(), inputs) for f in (found, expected))
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("edges", [1, 2])
def test_the_only_message_is_both_extremes_and_the_mean(form: None, value: float, edges: int) -> None:
    """Also a message of 0, and one over parallel edges: the slopes are those of finite differences."""
    graph = RelationalGraph.of_edges(torch.tensor([[0, 0, 1]] * edges), 2, 1)
    message = torch.full((1, 1, 1), value, dtype=torch.float64, requires_grad=True)
    for feature in range(3):

        def read(by: float, feature: int = feature) -> Tensor:
            return principal(graph, message + by, None)[1, 0, feature]

        assert read(0).item() == value
        slope = (read(1e-6) - read(-1e-6)).item() / 2e-6
        assert torch.autograd.grad(read(0), message)[0].item() == pytest.approx(slope) == pytest.approx(1)


def test_a_node_without_messages_has_no_features(form: None) -> None:
    graph = RelationalGraph.of_edges(torch.tensor([[0, 0, 1], [0, 0, 0]]), 2, 1)
    messages = torch.ones(1, 1, 1, requires_grad=True)
    features = principal(graph, messages, torch.tensor([0.0, 1.0]))
    assert features[0, 0, :3].tolist() == [0, 0, 0] and features[1, 0, :3].tolist() == [1, 1, 1]
    (gradient,) = torch.autograd.grad(features[0].sum(), messages)
    assert gradient.item() == 0
