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
        mean = some.sum(0) / (len(edges) + 1)
        deviation = (some.square().sum(0) / (len(edges) + 1) - mean**2).clamp(min=1e-6).sqrt()
        rows.append(torch.cat([mean, some.amax(0), some.amin(0), deviation], -1))
        degrees.append(len(edges) + 1.0)
    features, scale = torch.stack(rows), torch.tensor(degrees, dtype=messages.dtype).log()[:, None, None]
    scale = scale / scale.mean()
    return torch.cat([features, features * scale, features / scale.clamp(min=1e-2)], -1)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_it_is_what_a_loop_over_nodes_computes(compiled: bool, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled and not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")
    if not compiled:
        monkeypatch.setattr(native, "available", lambda x: False)
    generator = torch.Generator().manual_seed(1)
    facts = torch.randint(7, (20, 3), generator=generator)
    facts[:, 1] %= 2
    graph = RelationalGraph.of(facts.unique(dim=0), 8, 2)  # node 7 has no edge
    edge_weight = (torch.rand(len(graph.targets), generator=generator) > 0.3).double()

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    messages = draw(len(graph.sources), 3, 4).requires_grad_()
    boundary = draw(8, 3, 4).requires_grad_() if bounded else None
    readout, inputs = draw(8, 3, 48), [t for t in (messages, boundary) if t is not None]
    found, expected = (f(graph, messages, edge_weight, boundary) for f in (principal, explicit))
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad((f * readout).sum(), inputs) for f in (found, expected))
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b)
