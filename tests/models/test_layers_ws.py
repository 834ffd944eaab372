import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from spikewright.errors import ShapeError
from spikewright.layers.scale import SPIKE_SCALE, Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear

EPS = 1e-4


def conv(**options) -> ScaledWSConv2d:
    return ScaledWSConv2d(4, 6, 3, padding=1, **options).double()


def linear(**options) -> ScaledWSLinear:
    return ScaledWSLinear(7, 5, **options).double()


LAYERS = {
    "conv": (conv, (2, 4, 5, 5)),
    "grouped": (lambda **options: conv(groups=2, stride=2, **options), (2, 4, 5, 5)),
    "linear": (linear, (3, 7)),
}


@pytest.fixture(params=LAYERS)
def case(request):
    make, shape = LAYERS[request.param]
    torch.manual_seed(0)
    return make, torch.randn(shape, dtype=torch.float64)


def rows(weight: Tensor) -> Tensor:
    return weight.detach().flatten(1)


def test_rows_have_mean_zero_and_the_norm_of_their_gain(case):
    layer = case[0]()
    nn.init.uniform_(layer.weight, 0.0, 8.0)
    nn.init.uniform_(layer.gain, 0.5, 2.0)
    effective, raw, gain = rows(layer.effective_weight()), rows(layer.weight), rows(layer.gain)[:, 0]
    n = raw.shape[1]
    assert effective.mean(1).abs().max() < 1e-15
    squares = effective.square().sum(1)
    torch.testing.assert_close(squares, gain**2 * (n - 1) / n, rtol=2e-4, atol=0)
    variance = (raw - raw.mean(1, keepdim=True)).square().sum(1) / (n - 1)
    torch.testing.assert_close(squares, gain**2 * (n - 1) * variance / (n * variance + EPS), rtol=1e-12, atol=0)


def test_scaling_and_shifting_a_row_of_the_raw_weight_changes_nothing(case):
    make, x = case
    layer = make(eps=1e-300)
    before = layer(x)
    factor, shift = (torch.rand(2, len(layer.weight), *[1] * (layer.weight.dim() - 1)).double() * 3 + 0.1).unbind()
    with torch.no_grad():
        layer.weight.mul_(factor).add_(shift)
    torch.testing.assert_close(layer(x), before, rtol=1e-10, atol=1e-10)


def test_gradients_are_those_of_the_formula(case):
    make, x = case
    layer = make(eps=1e-2)
    nn.init.uniform_(layer.gain, 0.5, 2.0)
    names, values = zip(*((name, p.detach().requires_grad_()) for name, p in layer.named_parameters()))
    assert set(names) == {"weight", "bias", "gain"}

    def forward(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(forward, (x.requires_grad_(), *values))


def test_without_gain_there_is_no_gain_parameter(case):
    make, x = case
    layer = make(gain=False, bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    plain = F.linear if isinstance(layer, nn.Linear) else layer._conv_forward
    torch.testing.assert_close(layer(x), plain(x, layer.effective_weight(), None))


class Operations(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.linear, F.conv2d):
            self.weights.append(args[1])
        return func(*args, **(kwargs or {}))


def test_one_operation_is_called_with_the_effective_weight(case):
    make, x = case
    layer = make()
    with Operations() as operations:
        layer(x)
    (weight,) = operations.weights
    assert torch.equal(weight, layer.effective_weight())


def test_a_constant_row_gives_zero_and_finite_gradients(case):
    make, x = case
    layer = make(bias=False)
    nn.init.constant_(layer.weight, 0.3)
    output = layer(x)
    output.sum().backward()
    assert output.abs().max() < 1e-12
    assert torch.isfinite(layer.weight.grad).all()


def test_currents_of_unit_inputs_have_unit_variance():
    torch.manual_seed(0)
    layer = ScaledWSLinear(400, 300, bias=False)
    assert layer(torch.randn(500, 400)).var().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("make", [lambda: ScaledWSConv2d(1, 4, 1), lambda: ScaledWSLinear(1, 4)])
def test_a_single_weight_cannot_be_standardised(make):
    with pytest.raises(ShapeError, match="only 1: the variance of fewer than two"):
        make()


def test_scale_multiplies_by_the_inverse_deviation_of_spikes():
    torch.manual_seed(0)
    spikes = (torch.randn(200_000) >= 1).float()
    assert Scale()(spikes).std() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(Scale(0.5)(spikes), spikes / 2)
    assert repr(Scale()) == f"Scale(factor={SPIKE_SCALE})"
