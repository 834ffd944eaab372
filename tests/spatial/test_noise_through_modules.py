"""Noise behind neurons passes through attention and other operations, as its directional derivative; or is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.metrics import SavedBytes
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.memory_profile import plan
from spikewright.rules import OTTT, SLTT
from spikewright.spatial import OPZO
from tests.core.support import Doubled, Lambda
from tests.rules.support import CE, collected

X = 2 * torch.rand(4, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 2, 1])
pytestmark = pytest.mark.filterwarnings("ignore:.*does not see")


class Applied(Lambda):
    """A function of the input alone."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(lambda m, x: function(x))


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


def attention(weights: bool) -> nn.Module:
    return Lambda(lambda m, x: m.a(x, x, x, need_weights=weights)[0], a=nn.MultiheadAttention(8, 2, batch_first=True))


def dot_product(x: Tensor) -> Tensor:
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=mask)[:, 0]


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)


def frozen() -> nn.Module:
    return encoder().requires_grad_(False)


def behind(function: Callable[..., Tensor]) -> nn.Module:
    """A function behind a weight that is no layer's, so that what it gets asks for a gradient."""
    return nn.Sequential(Gain(), Applied(function))


THROUGH: dict[str, Callable[[], nn.Module]] = {
    "attention with weights": lambda: attention(True),
    "attention": lambda: attention(False),
    "dot product": lambda: Applied(dot_product),
    "dot product behind a gain": lambda: behind(dot_product),
    "silu": lambda: behind(F.silu),
    "softmax": lambda: behind(lambda x: x.softmax(-1)),
    "log softmax": lambda: behind(lambda x: x.log_softmax(1)),
    "logsumexp": lambda: behind(lambda x: x - x.logsumexp(-1, keepdim=True)),
    "normalize": lambda: behind(lambda x: F.normalize(x + 1, dim=-1)),
    "glu": lambda: behind(lambda x: F.glu(torch.cat([x, x], -1))),
    "hardsigmoid": lambda: behind(F.hardsigmoid),
    "group norm": lambda: nn.GroupNorm(1, 5),
    "layer norm": lambda: nn.LayerNorm(8),
}


def network(between: nn.Module) -> nn.Module:
    torch.manual_seed(2)
    layers = {"first": nn.Linear(8, 8), "lif": LIF(), "between": between, "out": nn.Linear(8, 3)}
    layers["first"].weight.data *= 3  # type: ignore[union-attr,operator]
    return Lambda(lambda m, x: m.out(m.between(m.lif(m.first(x)))).mean(1), **layers).double()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", THROUGH)
def test_what_arrives_is_the_value_and_the_derivative_along_the_noise(name: str, training: bool) -> None:
    module = network(THROUGH[name]()).train(training)
    parts: Any = module
    rule, x = SLTT(spatial=OPZO(alpha=0.3)), X[:1]
    (update,) = rule.updates(Network(module), x, Y, CE)
    spikes = (parts.first(x[0]) >= 1).double().detach()
    z = OPZO(alpha=0.3).noise.draw(spikes, "lif", 1, 0).double()  # type: ignore[union-attr]
    h = 1e-6
    with torch.no_grad():
        value, step = parts.between(spikes), parts.between(spikes + h * z) - parts.between(spikes - h * z)
        expected = parts.out(value + step / (2 * h)).mean(1)
    torch.testing.assert_close(update.output[0], expected, rtol=1e-7, atol=1e-8)
    assert (expected - parts.out(value).mean(1)).abs().max() > 1e-3
    found = collected(module)
    assert all(found[n].isfinite().all() and found[n].any() for n in ("first.weight", "out.weight"))


def test_a_gain_in_between_learns_as_if_it_were_part_of_the_weight() -> None:
    """Its gradient is taken where that of the weight is: at what arrives without noise."""
    module = network(Gain())
    parts: Any = module
    list(SLTT(spatial=OPZO(alpha=0.7)).updates(Network(module), X, Y, CE))
    expected = (parts.out.weight.grad * parts.out.weight).sum(0) / parts.between.gain
    torch.testing.assert_close(parts.between.gain.grad, expected, rtol=1e-12, atol=1e-15)
    assert parts.between.gain.grad.any()


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "own function": (lambda: Applied(Doubled.apply), r"'between' \(Applied\)"),
    "in a block": (lambda: nn.Sequential(nn.LayerNorm(8), Applied(Doubled.apply)), r"'between.1' \(Applied\)"),
    "distances": (lambda: Applied(lambda x: torch.cdist(x, x) @ x), r"'between' \(Applied\)"),
    "one operation for all": (frozen, r"'between' \(TransformerEncoderLayer\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_pass_it_on_is_named(name: str) -> None:
    build, place = REFUSED[name]
    net = Network(network(build()))
    net.module.between.train(name != "one operation for all")  # type: ignore[union-attr,operator]
    with pytest.raises(IncompatibleRule, match=rf"OPZO\(position='post'\).*{place} cannot pass on the noise.*pre"):
        list(OTTT(spatial=OPZO()).updates(net, X, Y, CE))
    list(OTTT(spatial=OPZO(position="pre")).updates(net, X, Y, CE))


def test_the_whole_forward_is_named_where_it_calls_the_operation() -> None:
    layers = {"first": nn.Linear(8, 8), "lif": LIF(), "out": nn.Linear(8, 3)}
    module = Lambda(lambda m, x: m.out(Doubled.apply(m.lif(m.first(x)))).mean(1), **layers).double()
    with pytest.raises(IncompatibleRule, match="but the forward of Lambda cannot pass on the noise"):
        list(OTTT(spatial=OPZO()).updates(Network(module), X, Y, CE))


@pytest.mark.parametrize("between", [lambda: attention(True), lambda: nn.GroupNorm(1, 5), encoder, frozen])
def test_its_memory_is_planned(between: Callable[[], nn.Module]) -> None:
    rows = plan(Network(network(between())), OTTT(spatial=OPZO()), X.shape).rows
    assert len({row.saved_bytes for row in rows}) == 1 and rows[0].saved_bytes > 0


class Keeps(torch.autograd.Function):
    """Keeps a tensor for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


KINDS: dict[str, tuple[Callable[[], Tensor], int]] = {
    "dense": (lambda: torch.eye(4), 16 * 8),
    "zero without memory": (lambda: torch._efficientzerotensor(4), 0),
    "coordinates": (lambda: torch.eye(4).to_sparse(), 2 * 4 * 8 + 4 * 8),
    "compressed rows": (lambda: torch.eye(4).to_sparse_csr(), 5 * 8 + 4 * 8 + 4 * 8),
    "compressed columns": (lambda: torch.eye(4).to_sparse_csc(), 5 * 8 + 4 * 8 + 4 * 8),
    "no device": (lambda: torch.ones(4, device="meta"), 4 * 8),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("name", KINDS)
def test_the_meter_knows_all_kinds_of_tensors(name: str) -> None:
    make, size = KINDS[name]
    with SavedBytes() as saved:
        y = Keeps.apply(torch.ones(2, requires_grad=True), make())
    assert saved.alive == saved.peak == size
    del y
    assert saved.alive == 0
