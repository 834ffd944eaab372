"""Under autocast parts of a model have half the precision of others; what they send is read for what it is."""

import itertools

import pytest
import torch

from spikewright.errors import ShapeError
from spikewright.graph import GRSNN, NBFNet
from spikewright.graph.messages import native, products
from spikewright.graph.models.aggregation import principal
from spikewright.graph.structure import RelationalGraph

KINDS = torch.float16, torch.bfloat16, torch.float32, torch.float64
MODELS = {
    "nbfnet": lambda: NBFNet(4, width=4),
    "nbfnet, sum": lambda: NBFNet(4, width=4, aggregate="sum"),
    "grsnn": lambda: GRSNN(4, width=4),
    "grsnn, weighted": lambda: GRSNN(4, width=4, weighted=True, layer_norm=True),
}


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(native, "available", lambda x: False)
    elif not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")


@pytest.fixture
def graph() -> RelationalGraph:
    facts = torch.tensor([[0, 0, 1], [1, 1, 2], [2, 0, 3], [3, 1, 0], [0, 1, 3]])
    return RelationalGraph.of(facts, 4, 2)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS, KINDS)))
def test_values_and_weights_of_any_two_precisions(graph: RelationalGraph, one: torch.dtype, other: torch.dtype) -> None:
    values = torch.randn(4, 3).to(one).requires_grad_()
    weights = torch.randn(4, 3).to(other).requires_grad_()
    found = products(graph, values, weights)
    assert found.dtype == torch.promote_types(one, other)
    whole = torch.zeros(4, 3, dtype=torch.float64)
    wide, wider = values.detach().double().requires_grad_(), weights.detach().double().requires_grad_()
    pairs = graph.pairs
    whole = whole.index_add(0, graph.targets, wide[graph.sources[pairs]] * wider[graph.kinds[pairs]])
    torch.testing.assert_close(found.double(), whole, rtol=0.02, atol=0.05)
    grads = torch.autograd.grad(found.sum(), [values, weights])
    expected = torch.autograd.grad(whole.sum(), [wide, wider])
    for grad, right in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad.double(), right, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(("one", "other"), list(itertools.product(KINDS[1:], KINDS[1:])))
def test_statistics_of_messages_and_of_a_boundary(graph: RelationalGraph, one: torch.dtype, other: torch.dtype) -> None:
    to = graph.one_each
    messages = torch.randn(len(to.sources), 1, 3).to(one).requires_grad_()
    boundary = torch.randn(4, 1, 3).to(other).requires_grad_()
    found = principal(graph, messages, None, boundary)
    whole = principal(graph, messages.detach().double(), None, boundary.detach().double())
    torch.testing.assert_close(found.double(), whole, rtol=0.05, atol=0.1)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(found.sum(), [messages, boundary]))


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_under_autocast(graph: RelationalGraph, name: str, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    asked = torch.tensor([0, 1]), torch.tensor([0, 1])
    with torch.autocast("cpu", kind):
        scores = model(graph, *asked)
    scores.float().sum().backward()
    whole = model(graph, *asked)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(scores.float(), whole, rtol=0.2, atol=0.2)


def test_a_kernel_refuses_memory_that_it_would_misread(kernels: None) -> None:
    if not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")
    short, out = torch.zeros(2, dtype=torch.float16), torch.zeros(2)
    with pytest.raises(ShapeError, match=r"'alpha_step_fire' computes in torch.float32.* given torch.float16"):
        native.invoke("alpha_step_fire", out.dtype, 2, short, torch.zeros(2, dtype=torch.uint8), 1.0, 1.0, out, out)
