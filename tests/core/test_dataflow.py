"""What depends on what, and how: every construct that a network may hold between its layers."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.dataflow import RANDOM, Bend, Dataflow
from spikewright.network.run import Run
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import find_sites
from spikewright.synapses.operations import Operation
from tests.core.support import Doubled, Lambda, lively

W = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5)
FILTERS = torch.linspace(-1, 1, 36, dtype=torch.float64).view(2, 2, 3, 3)
ONES, ZEROS = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
Function = Callable[[Tensor], Any]


def follow(function: Function, x: Tensor | None = None) -> tuple[Dataflow, Tensor]:
    """Run a function of `[2, 5]` and follow its input as "x", in a module "here"."""
    x = torch.rand(2, 5) + 0.1 if x is None else x
    with Dataflow() as flow:
        flow.module = "here"
        flow.source(x, "x")
        result = function(x)
    return flow, result


def ops(flow: Dataflow, x: Tensor, source: str = "x") -> set[str]:
    assert all(bend.module == "here" for bend in flow.depends(x)[source])
    return {bend.op for bend in flow.depends(x)[source]}


def written(x: Tensor) -> Tensor:
    y = torch.zeros(2, 5)
    y[:, 0] = x[:, 1]
    return y


def written_through_a_view(x: Tensor) -> Tensor:
    y = torch.zeros(2, 5)
    y.view(-1)[2:].add_(x.reshape(-1)[:8])
    return y


def filled(x: Tensor) -> Tensor:
    y = torch.empty(2, 5)
    y[:1], y[1:] = x[:1], x[1:]
    return y


def written_out(x: Tensor) -> Tensor:
    y = torch.empty(2, 5)
    torch.mul(x.detach(), 3, out=y)
    torch.div(x.detach(), 3, out=y)
    return y


def kept_in_a_tensors_data(x: Tensor) -> Tensor:
    y = torch.zeros(2, 5)
    y.data = x.detach() * 2
    return y


LINEAR: dict[str, Function] = {
    "linear": lambda x: F.linear(x, W, torch.ones(3)),
    "matmul of three axes": lambda x: x.expand(4, 2, 5) @ W.T.expand(4, 5, 3),
    "einsum": lambda x: torch.einsum("bi,oi->bo", x, W),
    "convolution": lambda x: F.conv2d(x.view(1, 2, 5, 1).expand(-1, -1, -1, 5), FILTERS, padding="same"),
    "transposed convolution": lambda x: F.conv_transpose2d(x.view(1, 2, 5, 1), FILTERS, stride=2),
    "bilinear in one": lambda x: F.bilinear(x, W[:2], torch.ones(4, 5, 5)),
    "batch norm, evaluated": lambda x: F.batch_norm(x, ZEROS, ONES),
    "cat": lambda x: torch.cat([x, x[:, :1] - 2, torch.ones(2, 1)], 1),
    "constant factor": lambda x: x * W[:2] / W[:2].abs().mean(),
    "constant mask": lambda x: torch.where(W[:2] > 0, x, 0.0).masked_fill(W[:2] > 0.5, 1.0),
    "constant index": lambda x: x[:, torch.tensor([1, 0])][:, None, ::2],
    "detached": lambda x: x.detach() + x.data,
    "dropout, evaluated": lambda x: F.dropout(F.dropout(x, 0.5, training=False), 0.0),
    "pooling": lambda x: F.adaptive_avg_pool1d(F.avg_pool1d(x[None], 2), 1),
    "padding": lambda x: F.pad(F.pad(x[None], (1, 1), mode="circular"), (1, 2), mode="reflect"),
    "interpolation": lambda x: F.interpolate(x[None], scale_factor=2.0, mode="linear"),
    "constant weights from data-free items": lambda x: x * W.sum().item() * float(bool(W.sum() > 0)),
    "lower precision": lambda x: x.float().half().double(),
    "own function": Doubled.apply,
    "written": written,
    "written through a view": written_through_a_view,
    "filled": filled,
    "written out": written_out,
    "data": kept_in_a_tensors_data,
    "in place": lambda x: x.clone().mul_(2).add_(1).sub_(x),
    "unbound": lambda x: torch.stack([row * 2 for row in x]),
    "embedding of constants": lambda x: F.embedding(torch.tensor([1, 0]), x),
    "sparse weights": lambda x: torch.sparse.mm(W.to_sparse(), x.T),
    "noise": lambda x: x + torch.randn_like(x),
}

CURVED: dict[str, tuple[Function, str]] = {
    "padding mask": (lambda x: F.linear(x, W) * (x != 0).all(1, keepdim=True), "mul"),
    "gate": (lambda x: F.linear(x, W) * (x.sum(1, keepdim=True) > 2), "mul"),
    "detached gate": (lambda x: x * x.detach().mean(1, keepdim=True), "mul"),
    "division": (lambda x: x / x.mean(), "div"),
    "division by what is detached": (lambda x: x / x.mean().detach(), "div"),
    "reciprocal": (lambda x: 1 / x, "reciprocal"),
    "data-dependent index": (lambda x: x.gather(1, x.argsort(1)), "gather"),
    "data-dependent rows": (lambda x: W[:, x[0].argsort()], "index"),
    "where": (lambda x: torch.where(x > 0.5, x, 0.0), "where"),
    "masked fill": (lambda x: x.masked_fill(x > 0.5, 0.0), "masked_fill"),
    "assignment": (lambda x: x.clone().index_put_((x > 0.5,), torch.zeros(())), "index_put"),
    "dropout": (lambda x: F.dropout(x, 0.5), "mul"),
    "feature dropout": (lambda x: F.dropout1d(x[None], 0.5), "mul"),
    "max pooling": (lambda x: F.max_pool2d(x[None], 2), "max_pool2d"),
    "max pooling in one dimension": (lambda x: F.max_pool1d(x[None], 2), "max_pool2d"),
    "layer norm": (lambda x: F.layer_norm(x, (5,)), "layer_norm"),
    "group norm": (lambda x: F.group_norm(x, 1), "group_norm"),
    "rms norm": (lambda x: F.rms_norm(x, (5,)), "pow"),
    "batch norm, training": (lambda x: F.batch_norm(x, ZEROS.clone(), ONES.clone(), training=True), "batch_norm"),
    "instance norm": (lambda x: F.instance_norm(x[None]), "batch_norm"),
    "gelu": (F.gelu, "gelu"),
    "relu in place": (lambda x: F.relu_(x.clone()), "relu"),
    "clamp": (lambda x: x.clamp(0, 1), "clamp"),
    "maximum": (lambda x: torch.maximum(x, x.roll(1, 1)), "maximum"),
    "amax": (lambda x: x.amax(1), "amax"),
    "softmax": (lambda x: x.softmax(1), "softmax"),
    "attention": (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), "bmm"),
    "bilinear": (lambda x: F.bilinear(x, x, torch.ones(4, 5, 5)), "trilinear"),
    "einsum of both": (lambda x: torch.einsum("bi,bi->b", x, x), "bmm"),
    "matmul of both": (lambda x: x @ x.T, "mm"),
    "own filters": (lambda x: F.conv1d(x[None], x[None]), "convolution"),
    "floor": (lambda x: x.floor(), "floor"),
    "integers": (lambda x: x.long().double(), "to"),
    "embedding": (lambda x: F.embedding(x.long(), W), "embedding"),
    "renormalised embedding": (
        lambda x: F.embedding(x.long(), W.clone(), max_norm=0.1) + F.embedding(torch.tensor([0]), W),
        "embedding_renorm",
    ),
    "normalised": (lambda x: F.normalize(x), "linalg_vector_norm"),
    "control flow of torch": (lambda x: torch.cond(x.sum() > 0, lambda a: 2 * a, lambda a: 3 * a, (x,)), "cond"),
    "view of something bent": (lambda x: x.sin().view(5, 2)[1:] * 2, "sin"),
}

LEAVES: dict[str, tuple[Function, str]] = {
    "item": (lambda x: W * x.sum().item(), "item"),
    "bool": (lambda x: x if x.sum() > 0 else -x, "item"),
    "float": (lambda x: x * float(x[0, 0]), "item"),
    "index": (lambda x: x[:, x[0].argmax()], "item"),
    "slice": (lambda x: x[:, : x[0].argmax()], "item"),
    "scalar argument": (lambda x: torch.add(x, x, alpha=x[0, 0]), "item"),
    "equal": (lambda x: torch.equal(x, x), "equal"),
    "allclose": (lambda x: torch.allclose(x, x), "allclose"),
    "tolist": (lambda x: x.tolist(), "tolist"),
    "numpy": (lambda x: x.numpy(), "numpy"),
    "array": (lambda x: np.asarray(x), "array"),
    "list": (lambda x: torch.tensor([x[0, 0], x[1, 1]]), "tensor"),
    "shape": (lambda x: len(x[x > 0.5]), "index"),
    "nonzero": (lambda x: (x > 0.5).nonzero().shape[0], "nonzero"),
    "pointer": (lambda x: x.data_ptr(), "data_ptr"),
    "written out of sight": (lambda x: torch.empty_like(x) + 1, "empty"),
    "of random numbers": (lambda x: x if torch.rand(()) > 0.5 else -x, "item"),
}


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("name", LINEAR)
def test_linear(name: str, graph: bool) -> None:
    with torch.inference_mode(not graph):
        flow, y = follow(LINEAR[name])
    assert ops(flow, y) == set()
    assert flow.left == []
    assert flow.depends(y).keys() - {"x"} == ({RANDOM} if name == "noise" else set())


@pytest.mark.parametrize("name", CURVED)
def test_not_linear(name: str) -> None:
    function, op = CURVED[name]
    flow, y = follow(function)
    assert op in ops(flow, y)
    assert flow.left == []


@pytest.mark.parametrize("name", CURVED)
def test_not_linear_without_a_graph(name: str) -> None:
    with torch.inference_mode():
        flow, y = follow(CURVED[name][0])
    assert ops(flow, y)


@pytest.mark.parametrize("name", LEAVES)
def test_what_leaves_for_python(name: str) -> None:
    function, op = LEAVES[name]
    flow, _ = follow(function)
    assert flow.left == [Bend(op, "here")]
    with torch.inference_mode():
        flow, _ = follow(function)
    assert Bend(op, "here") in flow.left


def test_constants_may_leave() -> None:
    def function(x: Tensor) -> Any:
        return torch.tensor([W[0, 0], W.sum().item(), *W[0].tolist()]) + torch.from_numpy(W.numpy())[0, 0], W[W > 0]

    flow, (y, _) = follow(function)
    assert flow.left == [] and flow.depends(y) == {}


def test_random_numbers_are_a_source_and_are_named() -> None:
    flow, y = follow(lambda x: F.dropout(x, 0.5) + torch.rand(5))
    assert flow.random == [Bend("bernoulli", "here"), Bend("rand", "here")]
    flow, y = follow(lambda x: F.dropout(x, 0.5) + torch.rand(5, generator=torch.Generator()))
    assert flow.random == [Bend("bernoulli", "here")]  # the other generator is nobody else's
    assert flow.depends(y) == {"x": {Bend("mul", "here")}, RANDOM: {Bend("mul", "here")}}
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # which may draw, but does not here
    flow, (y, *_) = follow(lambda x: attention(*[x.view(1, 1, 2, 5)] * 3, 0.0))
    assert flow.random == [] and flow.depends(y).keys() == {"x"}
    flow, y = follow(lambda x: torch.bernoulli(x / 2))
    assert ops(flow, y) == {"bernoulli"} and flow.depends(y).keys() == {"x", RANDOM}


def test_two_sources() -> None:
    a, b, c = torch.rand(2, 5), torch.rand(2, 5), torch.rand(2, 5)
    with Dataflow() as flow:
        flow.source(a, "a")
        flow.source(b, "b")
        added, product, mixed = a + b, a * b, torch.addcmul(a, b, W[:2]) + b.sin()
    assert flow.depends(added) == {"a": frozenset(), "b": frozenset()}
    assert flow.depends(product) == {"a": {Bend("mul", "")}, "b": {Bend("mul", "")}}
    assert flow.depends(mixed) == {"a": frozenset(), "b": {Bend("sin", "")}}
    assert flow.depends(c) == flow.depends(W) == {}


def test_sources_are_declared_anew() -> None:
    with Dataflow() as flow:
        x = torch.rand(2, 5)
        flow.source(x, "x")
        flow.module = "n"
        spikes = (x > 0.5).double()
        before = flow.depends(spikes)
        flow.source(spikes, "n", also={"state": frozenset({Bend("lif", "n")})})
        current = spikes @ W.T
        flow.bend(current, Bend("told", "n"))
    assert before == {"x": {Bend("gt", "n")}}
    assert flow.depends(spikes[0]) == {"n": frozenset(), "state": {Bend("lif", "n")}}
    assert flow.depends(current) == {"n": {Bend("told", "n")}, "state": {Bend("lif", "n"), Bend("told", "n")}}


def test_a_view_written_to_changes_its_base_and_what_is_behind() -> None:
    with Dataflow() as flow:
        x, y = torch.rand(2, 5), torch.rand(2, 5)
        flow.source(x, "x")
        flow.source(y, "y")
        base = torch.zeros(4, 5)
        untouched = base * 1
        base[:2] = x
        first = base + 1
        base[2:].view(-1).copy_(y.view(-1)).cos_()
        second = base + 1
        view = base.t()[0]
    assert flow.depends(untouched) == {}
    assert flow.depends(first) == {"x": frozenset()}
    assert flow.depends(second) == flow.depends(view) == {"x": {Bend("cos", "")}, "y": {Bend("cos", "")}}


def test_batch_statistics_are_data() -> None:
    mean, var = ZEROS.clone(), ONES.clone()

    def twice(x: Tensor) -> Tensor:
        F.batch_norm(x, mean, var, training=True)
        return F.batch_norm(W, mean, var)

    flow, y = follow(twice)
    assert ops(flow, y) == {"batch_norm"}
    assert flow.depends(mean).keys() == {"x"}


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integers_are_sources(dtype: torch.dtype) -> None:
    x = torch.ones(2, 5, dtype=dtype)
    assert ops(*follow(lambda x: x[:, 1:].double() * 2, x)) == set()
    assert ops(*follow(lambda x: F.embedding(x.long(), W), x)) >= {"embedding"}
    assert ops(*follow(lambda x: W[:2] * (x != 0), x)) == {"ne"}
    assert ops(*follow(lambda x: x + x, x)) == {"add"}  # which wraps around


def test_memory_is_not_taken_for_what_was_there_before() -> None:
    with Dataflow() as flow:
        for _ in range(50):
            x = torch.zeros(2, 5)
            assert flow.depends(x) == {}
            flow.source(x, "x")
            del x


def test_nothing_stays_active() -> None:
    with pytest.raises(ZeroDivisionError), Dataflow() as flow:
        x = torch.rand(2, 5)
        flow.source(x, "x")
        1 / 0  # noqa: B018
    x.tolist()
    assert flow.left == [] and flow.depends(x * 2) == {} and flow.depends(x).keys() == {"x"}


def test_memory_is_given_back() -> None:
    flow, _ = follow(lambda x: x.tolist())
    dead = weakref.ref(flow)
    del flow
    assert dead() is None


def test_who_reads_is_told() -> None:
    seen: list[tuple[list[int], str]] = []
    with Dataflow(read=lambda x, module: seen.append((list(x.shape), module))) as flow:
        flow.module = "a"
        x = torch.ones(2, 3)
        views = x.t()[1].detach(), x.data, torch.zeros_like(x)
        assert seen == []
        x.add(1)
        x[0].tolist()
        torch.zeros(2, 3).copy_(x)
        torch.tensor([views[0][0]])
    assert seen == [([2, 3], "a"), ([3], "a"), ([2, 3], "a"), ([], "a")]


def test_what_is_done_aside_is_not_followed() -> None:
    seen: list[Tensor] = []
    with Dataflow(read=lambda x, module: seen.append(x)) as flow:
        x = torch.ones(2, 3, requires_grad=True)
        flow.source(x, "x")

        def look() -> Tensor:
            assert x.tolist() and x.sum().item() == 6
            return flow.aside(torch.sin, 2 * x + torch.rand(2, 3))

        found = flow.aside(look)
        with pytest.raises(ZeroDivisionError):
            flow.aside(lambda: 1 / 0)
        assert flow.depends(found) == {} and seen == [] and flow.left == flow.random == []
        assert flow.depends(2 * x) == {"x": frozenset()} and len(seen) == 1
        x.tolist()
    assert [bend.op for bend in flow.left] == ["tolist"]


class Watching:
    """Declares currents and spikes as sources, and keeps what every neuron's current depends on."""

    def __init__(self, flow: Dataflow) -> None:
        self.flow = flow
        self.found: dict[str, Any] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        self.found[site] = self.flow.depends(current)
        self.flow.source(spikes, site)

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        self.flow.source(current, site, also=self.flow.depends(current))


def probe(module: nn.Module, x: Tensor) -> dict[str, Any]:
    """What the currents of a network's neurons depend on, and its output."""
    flow = Dataflow()
    watching = Watching(flow)
    run = Run(find_sites(module), options=RunOptions(observers=(watching,)))
    with flow:
        x = x.clone()
        flow.source(x, "input")
        output = run.advance(x)
    assert flow.left == []
    return watching.found | {"output": flow.depends(output)}


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("gated", [False, True])
def test_a_network(gated: bool, graph: bool) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        spikes = self.n(self.norm(self.a(x)))
        gate = (spikes.sum(1, keepdim=True) > 2).double() if gated else 0.5
        return self.c(self.m(self.b(spikes) * gate + self.skip(x)))

    module = lively(
        Lambda(
            forward,
            a=nn.Linear(8, 12),
            norm=nn.BatchNorm1d(12).eval(),
            n=sw.LIF(),
            b=nn.Linear(12, 12),
            skip=nn.Linear(8, 12),
            m=sw.LIF(tau=3.0, reset="zero"),
            c=nn.Linear(12, 4),
        )
    )
    with torch.set_grad_enabled(graph):
        found = probe(module, torch.rand(3, 2, 8))
    bends = {Bend("mul", "")} if gated else frozenset()
    assert found["n"] == {"a": frozenset(), "input": frozenset()}
    assert found["m"].keys() == {"b", "n", "skip", "input"}
    assert found["m"]["b"] == bends
    assert found["m"]["n"] == (bends | {Bend("gt", "")} if gated else bends)
    assert found["m"]["skip"] == found["m"]["input"] == frozenset()
    assert found["output"] == {"c": frozenset(), "m": frozenset()}


def test_a_network_with_feedback() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.c(self.n(self.back(F.max_pool1d(self.a(x), 2))))

    back = sw.Feedback(nn.Linear(6, 6), source="n")
    found = probe(
        lively(Lambda(forward, a=nn.Linear(8, 12), back=back, n=sw.LIF(), c=nn.Linear(6, 4))), torch.rand(2, 2, 8)
    )
    assert found["n"] == {
        "a": {Bend("max_pool2d", "")},
        "input": {Bend("max_pool2d", "")},
        "back.transform": frozenset(),
        "n": frozenset(),
    }
    assert found["output"] == {"c": frozenset(), "n": frozenset()}
