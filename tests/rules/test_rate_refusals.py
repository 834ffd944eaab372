"""Rules that learn from rates refuse what is not linear between neurons, whatever it is called, and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from spikewright.errors import IncompatibleRule
from spikewright.layers import Scale
from spikewright.losses import OnRate
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.rules import DSR, IDE, SPIDE, RateRule
from tests.core.support import Lambda, lively

pytestmark = pytest.mark.filterwarnings("ignore:.*draws random numbers")

T, N, F = 6, 3, 12
LOSS = OnRate(f.cross_entropy)
RULES: dict[str, Callable[[], RateRule]] = {"DSR": DSR, "IDE": IDE, "SPIDE": SPIDE}
every_rule = pytest.mark.parametrize("rule", RULES)


def of(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return Lambda(lambda m, x: function(x))


def around(layer: nn.Module, *, of_spikes: bool = True) -> nn.Module:
    """A layer between neurons and a weight, or between a weight and neurons."""
    middle = [IF(), layer, nn.Linear(F, F)] if of_spikes else [IF(), nn.Linear(F, F), layer]
    return lively(nn.Sequential(nn.Linear(F, F), *middle, IF(), nn.Linear(F, 4))).eval()


def batch(feature: tuple[int, ...] = (F,), moving: bool = True) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(5)
    x = 1.5 * torch.rand(T, N, *feature, generator=source, dtype=torch.float64)
    return x if moving else x[0].expand(T, *x.shape[1:]), torch.tensor([0, 2, 1])


def learned(rule: str, module: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """The loss of a rule, and that of the outputs it hands back."""
    make = RULES[rule]
    (update,) = make().updates(Network(module), x, y, LOSS)
    return float(update.loss), float(LOSS(update.output, y, T))


def refused(rule: str, module: nn.Module, match: str, x: Tensor | None = None) -> None:
    given, y = batch()
    with pytest.raises(IncompatibleRule, match=match):
        learned(rule, module, given if x is None else x, y)
    assert all(p.grad is None for p in module.parameters())


class SqueezeAndExcite(nn.Module):
    """A gate of channels by their means."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (3, 4))
        return (x * self.gate(x.mean(2)).sigmoid()[:, :, None]).flatten(1)


class OwnNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1)


def planes(pool: nn.Module, features: int) -> nn.Module:
    """A pooling of planes of 4 x 3, back to twelve features."""
    return nn.Sequential(nn.Unflatten(1, (1, 4, 3)), pool, nn.Flatten(), nn.Linear(features, F))


Case = tuple[Callable[[], nn.Module], str, str]
"""A layer, the name of the module that does it, and the operation."""

CURVED: dict[str, Case] = {
    "max_pool1d": (lambda: of(lambda x: f.max_pool1d(x, 3, 1, 1)), "2", "max_pool"),
    "MaxPool2d": (
        lambda: nn.Sequential(nn.Unflatten(1, (3, 2, 2)), nn.MaxPool2d(1), nn.Flatten()),
        "2.1",
        "max_pool2d",
    ),
    "adaptive max pool": (lambda: of(lambda x: f.adaptive_max_pool1d(x, F)), "2", "adaptive_max_pool"),
    "F.layer_norm": (lambda: of(lambda x: f.layer_norm(x, (F,))), "2", "layer_norm"),
    "LayerNorm": (lambda: nn.LayerNorm(F), "2", "layer_norm"),
    "GroupNorm": (lambda: nn.GroupNorm(3, F), "2", "group_norm"),
    "RMSNorm": (lambda: nn.RMSNorm(F), "2", "."),
    "own norm": (OwnNorm, "2", "div|std|var"),
    "normalize": (lambda: of(lambda x: f.normalize(x, dim=1)), "2", "."),
    "maximum": (lambda: of(lambda x: torch.maximum(x, x.roll(1, 1))), "2", "maximum"),
    "clamp": (lambda: of(lambda x: x.clamp(0.1, 0.6)), "2", "clamp"),
    "clamp_min": (lambda: of(lambda x: x.clamp_min(0.2)), "2", "clamp"),
    "relu": (lambda: of(lambda x: (x - 0.3).relu()), "2", "relu"),
    "GELU": (nn.GELU, "2", "gelu"),
    "SiLU": (nn.SiLU, "2", "silu"),
    "Tanh": (nn.Tanh, "2", "tanh"),
    "abs": (lambda: of(lambda x: (x - 0.3).abs()), "2", "abs"),
    "square": (lambda: of(lambda x: x**2), "2", "pow"),
    "product of spikes": (lambda: of(lambda x: x * x.roll(1, 1)), "2", "mul"),
    "product of matrices": (lambda: of(lambda x: torch.einsum("bi,bj->bij", x, x).sum(2)), "2", "."),
    "gate": (SqueezeAndExcite, "2", "sigmoid|mul"),
    "data mask": (lambda: of(lambda x: x * (x.sum(1, keepdim=True) > 2)), "2", "gt|mul"),
    "where": (lambda: of(lambda x: torch.where(x > 0.5, x, 0.1 * x)), "2", "gt|where"),
    "in place": (lambda: of(lambda x: x.clone().masked_fill_(x > 0.5, 0.3)), "2", "gt|masked_fill"),
    "index by data": (lambda: of(lambda x: x.gather(1, x.argsort(1))), "2", "sort|gather"),
    "mean of data": (lambda: of(lambda x: x / (x.mean(1, keepdim=True) + 1)), "2", "div"),
    "LPPool1d": (lambda: of(lambda x: f.lp_pool1d(x[:, None], 2.0, 1)[:, 0]), "2", "."),
    "LPPool2d": (lambda: planes(nn.LPPool2d(2, 2), 2), "2.1", "."),
    "FractionalMaxPool2d": (lambda: planes(nn.FractionalMaxPool2d(2, (2, 2)), 4), "2.1", "."),
    "F.dropout": (lambda: of(lambda x: f.dropout(x, 0.5, True)), "2", "."),
    "noise": (lambda: of(lambda x: x * torch.rand_like(x)), "2", "."),
    "softmax": (lambda: nn.Softmax(1), "2", "softmax"),
    "rounded": (lambda: of(lambda x: (3 * x).round() / 3), "2", "round"),
    "integers": (lambda: of(lambda x: (3 * x).long().to(x)), "2", "."),
    "by value": (lambda: of(lambda x: x if float(x.detach().sum()) > 3 else 2 * x), "2", "."),
    "detached": (lambda: of(lambda x: x * x.detach().roll(1, 1)), "2", "mul"),
}


@every_rule
@pytest.mark.parametrize("name", CURVED)
def test_what_bends_between_neurons(rule: str, name: str) -> None:
    build, module, op = CURVED[name]
    refused(rule, around(build()), rf"{rule} learns from rates, but in '{module}' .*'1'.*there is ({op})")


@pytest.mark.parametrize("name", CURVED)
def test_behind_the_weight_or_with_a_static_input(name: str) -> None:
    build, module, op = CURVED[name]
    behind = around(build(), of_spikes=False)
    refused("DSR", behind, rf"DSR learns from rates, but in '3{module[1:]}' .*there is ({op})")
    refused("DSR", around(build()), rf"in '{module}' .*there is ({op})", batch(moving=False)[0])


@every_rule
def test_at_the_output(rule: str) -> None:
    module = lively(nn.Sequential(nn.Linear(F, F), LIF(), nn.Linear(F, 4), nn.Softmax(1)))
    refused(rule, module, r"in '3' \(Softmax\), between '1' and the output, there is softmax")


@every_rule
def test_in_the_forward_of_the_network(rule: str) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.out(m.second(m.rec(f.max_pool1d(m.first(m.fc(x)), 3, 1, 1))))

    layers = {"fc": nn.Linear(F, F), "rec": nn.Linear(F, F), "out": nn.Linear(F, 4), "first": IF(), "second": IF()}
    refused(
        rule, lively(Lambda(forward, **layers)), "in the forward of Lambda, between 'first' and 'second', there is max_"
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(F, F), IF()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lif(self.fc(x))


def image(*layers: nn.Module) -> nn.Module:
    """Layers between neurons of `[4, 4, 4]` and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), IF(), *layers, nn.Flatten(), nn.LazyLinear(F), IF(), nn.Linear(F, 4)
    )


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(F, F), IF(), *layers, nn.LazyLinear(F), IF(), nn.Linear(F, 4))


STRAIGHT: dict[str, Callable[[], nn.Module]] = {
    "AvgPool2d": lambda: image(nn.AvgPool2d(2)),
    "AdaptiveAvgPool2d": lambda: image(nn.AdaptiveAvgPool2d(2)),
    "Flatten": image,
    "BatchNorm2d": lambda: image(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), IF()),
    "Dropout2d": lambda: image(nn.Dropout2d(0.4)),
    "upsample": lambda: image(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, stride=2), IF()),
    "bilinear": lambda: image(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 4, 3, stride=2), IF()),
    "pad": lambda: image(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3, stride=2), IF()),
    "zero pad": lambda: image(nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3, stride=2), IF()),
    "transposed": lambda: image(nn.ConvTranspose2d(4, 3, 2, stride=2), IF()),
    "grouped": lambda: image(nn.Conv2d(4, 8, 1, groups=2), IF()),
    "pixel shuffle": lambda: image(nn.PixelShuffle(2), nn.Conv2d(1, 4, 3), IF()),
    "unfold": lambda: image(nn.Unfold(2, stride=2)),
    "BatchNorm1d": lambda: flat(nn.Linear(F, F), nn.BatchNorm1d(F), IF()),
    "Dropout": lambda: flat(nn.Dropout(0.4)),
    "Scale": lambda: flat(Scale(1.3)),
    "residual": lambda: flat(Residual(), nn.Linear(F, F), IF()),
    "linear bottleneck": lambda: flat(nn.Linear(F, 5), nn.Linear(5, F), IF()),
    "norms in bottlenecks": lambda: flat(nn.Linear(F, 5), nn.BatchNorm1d(5), nn.Linear(5, F), nn.BatchNorm1d(F), IF()),
    "mean of features": lambda: flat(of(lambda x: x - x.mean(1, keepdim=True))),
    "constant mask": lambda: flat(of(lambda x: x * (torch.arange(F) % 3 > 0))),
    "permuted": lambda: flat(of(lambda x: x[:, torch.arange(F).flip(0)])),
    "concatenated": lambda: flat(of(lambda x: torch.cat([x, 2 * x], 1))),
    "no neurons behind": lambda: nn.Sequential(nn.Linear(F, F), IF(), nn.Linear(F, 8), nn.Linear(8, 4)),
}


def lively_in_evaluation(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    module = STRAIGHT[name]().eval()
    x, y = batch((2, 4, 4) if isinstance(module[0], nn.Conv2d) else (F,), moving=False)
    Network(module.double()).wiring(x)  # which gives lazy layers their sizes
    lively(module)
    source = torch.Generator().manual_seed(6)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1, generator=source)
            norm.running_var.uniform_(0.5, 2.0, generator=source)
    return module, x, y


@every_rule
@pytest.mark.parametrize("name", STRAIGHT)
def test_what_is_linear_is_learned_at_the_simulated_rates(rule: str, name: str) -> None:
    """The loss at the recorded rates is that of the simulation, to rounding."""
    module, x, y = lively_in_evaluation(name)
    loss, simulated = learned(rule, module, x, y)
    assert loss == pytest.approx(simulated, rel=1e-9, abs=1e-9)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None) > 0


@every_rule
@pytest.mark.parametrize("front", [nn.Tanh, lambda: nn.LayerNorm(F), lambda: of(lambda x: x * x.roll(1, 1))])
def test_what_bends_the_input_only(rule: str, front: Callable[[], nn.Module]) -> None:
    """A static input may go through anything: its mean is what it is."""
    module = lively(nn.Sequential(front(), nn.Linear(F, F), IF(), nn.Linear(F, F), IF(), nn.Linear(F, 4)))
    x, y = batch(moving=False)
    loss, simulated = learned(rule, module, x, y)
    assert loss == pytest.approx(simulated, rel=1e-9, abs=1e-9)
    module.zero_grad()
    refused(rule, module, rf"{rule} learns from rates, but in '0' .*between the input and '2'")


@pytest.mark.parametrize("rule", [DSR(), IDE(), SPIDE(steps=20)], ids=lambda rule: type(rule).__name__)
def test_integers_that_do_not_move_stay_integers(rule: RateRule) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(9, 6), LIF(), nn.Linear(6, 3)).double()
    x, y = torch.randint(9, (4,)).expand(5, 4), torch.tensor([0, 2, 1, 2])
    for steps in (x, x[:1]):
        (update,) = rule.updates(Network(module), steps, y, OnRate(nn.CrossEntropyLoss()))
        assert torch.isfinite(update.loss)
    moving = torch.randint(9, (5, 4))
    with pytest.raises(IncompatibleRule, match="between the input and '1', there is embedding"):
        list(rule.updates(Network(module), moving, y, OnRate(nn.CrossEntropyLoss())))
