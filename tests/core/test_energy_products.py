"""The energy estimate of all products of a network: beside explicit counters, and beside those of torch."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from spikewright.losses import PerStep
from spikewright.metrics import Operations
from spikewright.metrics.operations import spike_unit
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.reports.energy_estimate import Energy, energy
from spikewright.rules import BPTT, SLTT, Rule
from spikewright.surrogate import Sigmoid
from tests.core.support import Lambda

STEPS, BATCH, TOKENS, WIDTH = 2, 3, 5, 4


@pytest.fixture(autouse=True)
def in_float64(float64: None) -> None:
    """Sums of products are exact."""


def estimate(module: nn.Module, x: Tensor, rule: Rule | None = None) -> Energy:
    torch.manual_seed(0)
    y = torch.zeros(x.shape[1], dtype=torch.long)
    return energy(Network(module), rule or SLTT(), x, y, PerStep(F.cross_entropy))


def same(found: Operations | None, additions: float, multiplications: float) -> bool:
    assert found is not None
    return (found.additions, found.multiplications) == pytest.approx((additions, multiplications), rel=1e-12)


class Weighted(Lambda):
    """A function of a module with parameters of its own."""

    def __init__(self, call: Callable[..., Tensor], weights: dict[str, Tensor], **parts: nn.Module) -> None:
        super().__init__(call, **parts)
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight))


# Taps of convolutions.


def taps(layer: Any, x: Tensor) -> int:
    """Count, tap by tap, the products of the entries of `x` that are not zero, [row, channel, place], with weights."""
    total, transposed = 0, isinstance(layer, nn.ConvTranspose1d)
    (stride,), (padding,), (dilation,), (size,) = layer.stride, layer.padding, layer.dilation, layer.kernel_size
    outputs = layer(x).shape[2]
    each = layer.out_channels // layer.groups
    for _, _, place in x.nonzero().tolist():
        for tap in range(size):
            at = place * stride + tap * dilation - padding if transposed else place - tap * dilation + padding
            if not transposed:
                at, left = divmod(at, stride)
                if left:
                    continue
            total += each * (0 <= at < outputs)
    return total


KINDS = [
    lambda: nn.Conv1d(2, 4, 3, padding=1),
    lambda: nn.Conv1d(2, 4, 3, padding=2, stride=2),
    lambda: nn.Conv1d(2, 4, 3, padding=3, dilation=2, groups=2),
    lambda: nn.Conv1d(2, 4, 5, padding=0, stride=3),
    lambda: nn.ConvTranspose1d(2, 4, 3, padding=1),
    lambda: nn.ConvTranspose1d(2, 4, 3, padding=2, stride=2, output_padding=1, groups=2),
]


@pytest.mark.parametrize("spikes", [False, True])
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_only_taps_on_the_input_count(kind: int, spikes: bool) -> None:
    torch.manual_seed(1)
    layer = KINDS[kind]()
    x = (torch.rand(STEPS, BATCH, 2, 7) < 0.4).double() if spikes else 1 + torch.rand(STEPS, BATCH, 2, 7)
    found = estimate(Lambda(lambda s, x: s.n(s.a(x)).mean(2), a=layer, n=LIF()), x)
    count = sum(taps(layer, step) for step in x) / BATCH
    assert same(found.forward, *((count, 0) if spikes else (0, count)))
    backward = sum(taps(layer, torch.ones_like(step)) for step in x) / BATCH
    assert same(found.backward, 0, backward)


PADDED: dict[str, Callable[[], nn.Module]] = {
    "same": lambda: nn.Conv1d(2, 4, 3, padding="same"),
    "module": lambda: nn.Sequential(nn.ConstantPad1d(1, 0.0), nn.Conv1d(2, 4, 3)),
    "twice": lambda: nn.Sequential(nn.ZeroPad1d((1, 0)), nn.ConstantPad1d((0, 1), 0.0), nn.Conv1d(2, 4, 3)),
    "function": lambda: Weighted(lambda s, x: F.conv1d(F.pad(x, (1, 1)), s.w), {"w": torch.randn(4, 2, 3)}),
}


@pytest.mark.parametrize("way", PADDED)
def test_padding_ahead_of_a_convolution_meets_nothing_either(way: str) -> None:
    x = 1 + torch.rand(STEPS, BATCH, 2, 7)
    module = Lambda(lambda s, x: s.n(s.a(x)).mean(2), a=PADDED[way](), n=LIF())
    assert estimate(module, x).forward == Operations(0, STEPS * 4 * 2 * (7 + 6 + 6))


def test_an_uneven_kernel_is_padded_on_one_side() -> None:
    x = 1 + torch.rand(STEPS, BATCH, 2, 7)
    module = Lambda(lambda s, x: s.n(s.a(x)).mean(2), a=nn.Conv1d(2, 4, 2, padding="same"), n=LIF())
    with pytest.warns(UserWarning, match="even kernel"):
        assert estimate(module, x).forward == Operations(0, STEPS * 4 * 2 * (7 + 6))


@pytest.mark.parametrize(("mode", "value"), [("circular", 0.0), ("constant", 1.0)])
def test_padding_with_numbers_counts(mode: str, value: float) -> None:
    module = Lambda(lambda s, x: s.n(s.a(F.pad(x, (1, 1), mode, value))).mean(2), a=nn.Conv1d(2, 4, 3), n=LIF())
    assert estimate(module, 2 + torch.rand(STEPS, BATCH, 2, 7)).forward == Operations(0, STEPS * 4 * 2 * 3 * 7)


# Functions and attention.


def attention(**options: Any) -> nn.Module:
    parts = {"a": nn.MultiheadAttention(WIDTH, 2, batch_first=True, **options), "i": nn.Linear(3, WIDTH)}
    return Lambda(lambda s, x: s.o(s.n(s.a(*[s.i(x)] * 3)[0]).mean(1)), **parts, n=LIF(), o=nn.Linear(WIDTH, 2))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)
    return Lambda(
        lambda s, x: s.o(s.n(s.t(s.i(x))).mean(1)), i=nn.Linear(3, WIDTH), t=layer, n=LIF(), o=nn.Linear(4, 2)
    )


def functions(call: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], nn.Module]:
    """A product of the input, [row, token, 3], with a weight of 3 by 4, called as a function."""
    return lambda: Weighted(
        lambda s, x: s.o(s.n(call(x, s.w)).mean(1)), {"w": torch.randn(3, WIDTH)}, n=LIF(), o=nn.Linear(WIDTH, 2)
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "attention": attention,
    "one key": lambda: attention(add_bias_kv=True),
    "encoder": encoder,
    "linear": functions(lambda x, w: F.linear(x, w.T)),
    "matmul": functions(lambda x, w: x @ w),
    "einsum": functions(lambda x, w: torch.einsum("nti,io->nto", x, w)),
    "bmm": functions(lambda x, w: torch.bmm(x, w.expand(len(x), -1, -1))),
    "addmm": functions(lambda x, w: torch.addmm(w[0], x.flatten(0, 1), w).unflatten(0, x.shape[:2])),
    "tensordot": functions(lambda x, w: torch.tensordot(x, w, 1)),
    "conv": functions(lambda x, w: F.conv1d(x.mT, w.T.unsqueeze(2)).mT),
    "scores": functions(lambda x, w: F.scaled_dot_product_attention(x @ w, x @ w, x @ w)),
    "own scores": functions(lambda x, w: (x @ w @ (x @ w).mT).softmax(2) @ (x @ w)),
}


def flops(call: Callable[[], Any]) -> float:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2 / BATCH


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_every_product_is_counted(name: str, training: bool) -> None:
    torch.manual_seed(0)
    module, x = NETS[name]().train(training), 1 + torch.rand(STEPS, BATCH, TOKENS, 3)
    found, net = estimate(module, x).forward, Network(module.train())
    net.wiring(x)
    with torch.no_grad():
        whole = flops(lambda: net.run(x))
    assert found.multiplications == whole - 2 * WIDTH * STEPS  # the readout is told spikes


@pytest.mark.parametrize("rule", [BPTT, SLTT])
@pytest.mark.parametrize("name", NETS)
def test_so_are_those_of_gradients(name: str, rule: Callable[[], Rule]) -> None:
    torch.manual_seed(0)
    module, x = NETS[name](), 1 + torch.rand(STEPS, BATCH, TOKENS, 3)
    names = [n for n, _ in module.named_parameters()]
    for frozen in ([], names[:1], names[:2], names[2:]):
        for parameter_name, parameter in module.named_parameters():
            parameter.requires_grad_(parameter_name not in frozen)
        found = estimate(module, x, rule()).backward
        net, y = Network(module), torch.zeros(BATCH, dtype=torch.long)
        net.wiring(x)
        whole = flops(lambda: list(rule().updates(net, x, y, PerStep(F.cross_entropy))))  # noqa: B023
        with torch.no_grad():
            forward = flops(lambda: net.run(x))  # noqa: B023
        assert found is not None and found.multiplications == whole - forward, frozen


def test_products_outside_of_layers_are_dense() -> None:
    """Queries and keys of spikes: no synapse of a layer adds a weight for a spike there."""
    torch.manual_seed(0)

    def forward(s: Any, x: Tensor) -> Tensor:
        q = s.n(x)
        return s.o((q @ q.mT) @ s.v)

    module = Weighted(forward, {"v": torch.randn(TOKENS, 2)}, n=IF(), o=nn.Linear(2, 2))
    x = 2 * torch.rand(STEPS, BATCH, TOKENS, WIDTH)
    found = estimate(Lambda(lambda s, x: s.m(x).mean(1), m=module), x).forward
    assert same(found, 0.0, STEPS * TOKENS * (WIDTH * TOKENS + TOKENS * 2 + 2 * 2))


@pytest.mark.parametrize("spikes", [(), (0,), (1,), (0, 1)])
def test_bilinear_maps(spikes: tuple[int, ...]) -> None:
    """The weight of 2 x 3 x 4 times the second input, and the first input times that."""
    torch.manual_seed(0)
    x = 1 + torch.rand(STEPS, BATCH, 7)
    for part in spikes:
        x[..., (slice(0, 3), slice(3, 7))[part]].copy_((torch.rand(STEPS, BATCH, (3, 4)[part]) < 0.5).double())
    module = Lambda(lambda s, x: s.n(s.b(x[..., :3], x[..., 3:])), b=nn.Bilinear(3, 4, 2, bias=False), n=LIF())
    assert same(estimate(module, x).forward, 0.0, STEPS * (4 * 2 * 3 + 3 * 2))


def test_weights_of_functions_carry_errors_back() -> None:
    weights = {"v": torch.randn(4, 5), "w": torch.randn(5, 2)}
    module = Weighted(lambda s, x: s.m(s.n(s.a(x)) @ s.v) @ s.w, weights, a=nn.Linear(3, 4), n=LIF(), m=LIF())
    x = 1 + torch.rand(STEPS, BATCH, 3)
    assert estimate(module, x).feedback_parameters == 4 * 5 + 5 * 2
    module.a.requires_grad_(False)
    assert estimate(module, x).feedback_parameters == 5 * 2
    assert (
        estimate(attention(), torch.rand(STEPS, BATCH, TOKENS, 3)).feedback_parameters == 4 * WIDTH * WIDTH + WIDTH * 2
    )


def test_weights_from_weights_are_no_part_of_the_simulation() -> None:
    weights = {"u": torch.randn(3, 2), "v": torch.randn(2, 4)}
    module = Weighted(lambda s, x: s.n(x @ (s.u @ s.v)), weights, n=LIF())
    assert estimate(module, 1 + torch.rand(STEPS, BATCH, 3)).forward == Operations(0, STEPS * 3 * 4)


# Spikes behind pooling and sums.

BEHIND: dict[str, Callable[[], nn.Module]] = {
    "average": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()),
    "average of three": lambda: nn.Sequential(nn.AvgPool2d(3, 3), nn.Flatten()),
    "all": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "mean": lambda: Lambda(lambda s, x: x.mean((2, 3))),
    "sum": lambda: Lambda(lambda s, x: (x[..., :3] + x[..., 3:]).flatten(1)),
    "scaled": lambda: Lambda(lambda s, x: 0.3 * F.avg_pool2d(x, 2).flatten(1)),
    "twice": lambda: nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(3), nn.Flatten()),
}


@pytest.mark.parametrize(("amplitude", "dtype"), [(1.0, torch.float64), (-0.7, torch.float32)])
@pytest.mark.parametrize("way", BEHIND)
def test_spikes_behind_pooling_are_additions(way: str, amplitude: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    make = BEHIND[way]
    x = 2 * torch.rand(STEPS, BATCH, 2, 6, 6, dtype=dtype)
    size = make()(x[0]).shape[1]
    module = nn.Sequential(LIF(amplitude=amplitude), make(), nn.Linear(size, 5)).to(dtype)
    spikes = Network(nn.Sequential(LIF()))(x)
    assert same(estimate(module, x).forward, float(spikes.sum()) * 5 / BATCH, 0)


def test_several_spikes_that_all_neurons_send_are_several() -> None:
    """A step in which all send the same number shows nothing of the value of one spike: the neuron declares it."""
    x = torch.full((STEPS, BATCH, 3), 2.0).double()
    for amplitude in (1.0, -0.7):
        module = nn.Sequential(IF(max_spikes=None, amplitude=amplitude), nn.Flatten(), nn.Linear(3, 5))
        assert same(estimate(module, x).forward, STEPS * 2 * 3 * 5, 0)


def test_the_value_of_a_spike_is_that_of_all_steps() -> None:
    """Behind pooling, a step in which all windows hold two spikes is counted in the unit of another step."""
    x = torch.zeros(3, 1, 1, 2, 4).double()
    x[0, ..., :1, :], x[1, ..., :1, ::2], x[2, ..., ::3] = 2.0, 2.0, 2.0  # windows of 2, 2; 1, 1; 2, 2 spikes
    module = nn.Sequential(LIF(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(2, 5))
    assert same(estimate(module, x).forward, 10 * 5, 0)


def test_values_of_a_spike_may_differ_by_rounding() -> None:
    x = torch.zeros(2, 1, 1, 3, 3)
    x[0, ..., :1], x[1, ..., :1, :2] = 2.0, 2.0  # 3 and 2 of 9 spikes
    module = nn.Sequential(LIF(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(1, 5)).bfloat16()
    assert same(estimate(module, x.bfloat16()).forward, 5 * 5, 0)


def test_inputs_of_other_values_at_every_step_are_real_numbers() -> None:
    x = torch.tensor([1.0, 2**0.5]).double()[:, None, None].expand(2, 1, 3)
    assert estimate(nn.Sequential(nn.Linear(3, 5), LIF()), x).forward == Operations(0, 2 * 3 * 5)


def test_means_of_the_input_are_real_numbers() -> None:
    x = (torch.rand(STEPS, BATCH, 2, 4, 4) < 0.5).double()
    module = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 5), LIF())
    assert estimate(module, x).forward == Operations(0, STEPS * 8 * 5)


def test_what_is_no_number_of_spikes() -> None:
    torch.manual_seed(0)
    for values in (torch.randn(50), torch.tensor([0.0, 1.0, 2**0.5]), torch.rand(10**4).float()):
        assert spike_unit(values, of_spikes=True) is None
    for unit, few in product((1 / 9, 0.3, 7.0), (1, 2, 5)):
        counts = few * torch.tensor([0, 1, 2, 7, -3])
        found = spike_unit((counts * unit).float(), of_spikes=True)
        assert found == pytest.approx(few * unit, rel=1e-6)


def test_a_network_without_operations_has_no_ratio() -> None:
    x = torch.rand(STEPS, BATCH, 3)
    found = estimate(nn.Sequential(LIF(learn_tau=True)), x)
    assert found.ratio is None and "no operations" in found.table()


def test_foreign_operators_are_named() -> None:
    @torch.library.custom_op("figures::double", mutates_args=())
    def double(x: Tensor) -> Tensor:
        return 2 * x

    double.register_autograd(lambda ctx, grad: 2 * grad)
    module = Lambda(lambda s, x: s.n(double(s.a(x))), a=nn.Linear(3, 4), n=LIF(surrogate=Sigmoid(4.0)))
    found = estimate(module, torch.rand(STEPS, BATCH, 3))
    assert found.uncounted == ("figures::double",) and "figures::double" in found.table()
