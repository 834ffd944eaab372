"""Sums of messages over the edges of a graph: what a pair transmits is computed once, however many edges it has.

A message is one bit of the history of its source, or a value of it, times a weight of its relation.  Everything is
`[..., columns]`, where a column is a channel of a query.  Compiled kernels serve the CPU; without them, and on other
devices, every distinct pair (source, relation) is gathered once and one sparse product sums over edges.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikewright.graph.structure import RelationalGraph
from spikewright.kernels import native


@dataclass(frozen=True)
class EdgeSpikes:
    """Messages that are spikes of some steps ago.

    Attributes:
        history: Bit d tells whether a node fired d steps ago, `[N, columns]`, uint8.
        delays: Which bit, by relation, `[R, columns]`, uint8.
        weights: By relation, `[R, columns]`; `None` for 1.
    """

    history: Tensor
    delays: Tensor
    weights: Tensor | None = None

    def pairs(self, graph: RelationalGraph, dtype: torch.dtype) -> Tensor:
        """Return what each pair transmits, `[P, columns]`."""
        sent = ((self.history[graph.sources] >> self.delays[graph.kinds]) & 1).to(dtype)
        return sent if self.weights is None else sent * self.weights[graph.kinds]


@dataclass(frozen=True)
class EdgeGradients:
    """Where the gradient of spike messages is added up.

    Attributes:
        ring: By step, `[slots, N, columns]`.
        now: The slot of the step of no delay; longer delays lead to the slots before.
        reach: The longest delay that leads to a step that there was.
        delays: By relation, `[R, columns]`; `None` if nobody asks.
        weights: The same.
        here: What a spike gives the gradient of its delay.
        before: What a spike one step earlier gives.
        traces: `[step, N, columns]` in the place of these two, the last one of the step of no delay.
    """

    ring: Tensor
    now: int
    reach: int
    delays: Tensor | None
    weights: Tensor | None
    here: float = 0.0
    before: float = 0.0
    traces: Tensor | None = None


def arriving(graph: RelationalGraph, spikes: EdgeSpikes, edge_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the sum of the messages that arrive at each target, `[arrivals, columns]`.

    Args:
        graph: Along whose edges messages travel.
        spikes: What they are.
        edge_weight: A weight for every edge, `[E]`; `None` for 1.
        dtype: Of the sum.
    """
    like = torch.empty(0, dtype=dtype, device=spikes.history.device)
    if not native.available(like):
        return _summed(graph, spikes.pairs(graph, dtype), edge_weight)
    return _gather(graph, edge_weight, like, spikes.history, None, spikes.delays, spikes.weights)


def add_gradients(
    graph: RelationalGraph, spikes: EdgeSpikes, edge_weight: Tensor | None, grad: Tensor, to: EdgeGradients
) -> None:
    """Add what a gradient of `arriving`, `[arrivals, columns]`, gives spikes, delays and weights."""
    if not native.available(grad):
        return _add_gradients(graph, spikes, edge_weight, grad, to)
    here = None if to.traces is None else to.traces[-1]
    _scatter(
        *(graph, edge_weight, grad, spikes.history, None, spikes.delays, spikes.weights),
        *(to.ring, len(to.ring), to.now, to.reach, to.weights, to.delays, to.here, to.before, here),
    )


def _add_gradients(
    graph: RelationalGraph, spikes: EdgeSpikes, edge_weight: Tensor | None, grad: Tensor, to: EdgeGradients
) -> None:
    back, delays = _returned(graph, grad, edge_weight), spikes.delays[graph.kinds]
    past = spikes.history[graph.sources] >> delays
    if to.weights is not None:
        to.weights.index_add_(0, graph.kinds, back * (past & 1))
    if spikes.weights is not None:
        back = back * spikes.weights[graph.kinds]
    for delay in range(to.reach + 1):
        at = back * (delays == delay)
        to.ring[(to.now - delay) % len(to.ring)].index_add_(0, graph.sources, at)
        if to.traces is not None and to.delays is not None:
            to.delays.index_add_(0, graph.kinds, at * to.traces[-1 - delay][graph.sources])
    if to.traces is None and to.delays is not None:
        slope = to.here * (past & 1).to(grad.dtype) + to.before * ((past >> 1) & 1).to(grad.dtype)
        to.delays.index_add_(0, graph.kinds, back * slope)


def products(graph: RelationalGraph, values: Tensor, weights: Tensor, edge_weight: Tensor | None = None) -> Tensor:
    """Return the sums of `values[source] * weights[relation]` that arrive at each target; differentiable.

    Args:
        graph: Along whose edges messages travel.
        values: `[N, columns]`.
        weights: `[R, columns]`.
        edge_weight: A weight for every edge, `[E]`; `None` for 1.

    Returns:
        `[arrivals, columns]`.
    """
    dtype = torch.promote_types(values.dtype, weights.dtype)  # under autocast one may have half the precision
    return _Products.apply(values.to(dtype), weights.to(dtype), edge_weight, graph)  # type: ignore[return-value]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weights: Tensor, edge_weight: Tensor | None, graph: RelationalGraph
    ) -> Tensor:
        values, weights = values.contiguous(), weights.contiguous()
        ctx.save_for_backward(values, weights, edge_weight)
        ctx.graph = graph
        if native.available(values):
            return _gather(graph, edge_weight, values, None, values, None, weights)
        return _summed(graph, values[graph.sources] * weights[graph.kinds], edge_weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        values, weights, edge_weight = ctx.saved_tensors
        graph, grad = ctx.graph, grads[0].contiguous()
        to_values, to_weights, to_edge_weight = torch.zeros_like(values), torch.zeros_like(weights), None
        if native.available(grad):
            _scatter(
                *(graph, edge_weight, grad, None, values, None, weights),
                *(to_values, 1, 0, 0, to_weights, None, 0.0, 0.0, None),
            )
        else:
            back = _returned(graph, grad, edge_weight)
            to_values.index_add_(0, graph.sources, back * weights[graph.kinds])
            to_weights.index_add_(0, graph.kinds, back * values[graph.sources])
        if ctx.needs_input_grad[2]:
            to_edge_weight = along_edges(graph, grad, values[graph.sources] * weights[graph.kinds])
        return to_values, to_weights, to_edge_weight, None


def along_edges(graph: RelationalGraph, grad: Tensor, sent: Tensor) -> Tensor:
    """Return the gradient of the weight of every edge, `[E]`: of what arrived, times what its pair sent."""
    parts = zip(graph.targets.split(1 << 16), graph.pairs.split(1 << 16), strict=True)
    return torch.cat([(grad[targets] * sent[pairs]).sum(1) for targets, pairs in parts])


def _gather(
    graph: RelationalGraph,
    edge_weight: Tensor | None,
    like: Tensor,
    history: Tensor | None,
    values: Tensor | None,
    delays: Tensor | None,
    weights: Tensor | None,
) -> Tensor:
    starts, sources, kinds, order = graph.by_target
    rows = history if values is None else values
    assert rows is not None
    columns = rows.shape[1]
    out = like.new_empty(graph.arrivals, columns)
    edge_weight = None if edge_weight is None else edge_weight.to(like.dtype)[order]
    ahead = (graph.arrivals, starts, sources, kinds, edge_weight, columns)
    native.invoke("gather", like.dtype, *ahead, history, values, delays, weights, out)
    return out


def _scatter(graph: RelationalGraph, edge_weight: Tensor | None, grad: Tensor, *arguments: Any) -> None:
    edge_weight = None if edge_weight is None else edge_weight.to(grad.dtype)
    layout = (graph.by_source, graph.kinds, graph.by_pair, graph.targets, edge_weight)
    native.invoke("scatter", grad.dtype, graph.nodes, *layout, grad.shape[1], grad, *arguments)


def _summed(graph: RelationalGraph, sent: Tensor, edge_weight: Tensor | None) -> Tensor:
    """Sum over the edges that end at a target what their pairs send, `[P, columns]`."""
    starts, _, _, order = graph.by_target
    return _product(
        starts, graph.pairs_by_target, None if edge_weight is None else edge_weight[order], len(graph.sources), sent
    )


def _returned(graph: RelationalGraph, grad: Tensor, edge_weight: Tensor | None) -> Tensor:
    """Sum over the edges of a pair the gradients of their targets, `[arrivals, columns]`."""
    return _product(graph.by_pair, graph.targets, edge_weight, graph.arrivals, grad)


def _product(starts: Tensor, columns: Tensor, values: Tensor | None, width: int, dense: Tensor) -> Tensor:
    """Multiply a sparse matrix of compressed rows with a dense one."""
    if values is None:
        values = dense.new_ones(len(columns))
    with warnings.catch_warnings(), torch.autocast(dense.device.type, enabled=False):
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        size = (len(starts) - 1, width)
        wide = torch.promote_types(dense.dtype, torch.float32)  # there is no such product in half precision
        matrix = torch.sparse_csr_tensor(starts, columns, values.to(wide), size, check_invariants=False)
        return (matrix @ dense.to(wide)).to(dense.dtype)
