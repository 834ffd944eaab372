"""The networks with feedback: sizes, wiring against a program of their own, initialisation and restriction."""

import copy
import inspect

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright
from spikewright.errors import ConfigError, ShapeError
from spikewright.layers.feedback import Feedback
from spikewright.layers.restriction import operator_norm
from spikewright.models import FeedbackNet, create_model, model_class

PRESETS = ("alexnet_f", "cifarnet_f", "conv_f", "dvs_conv_f", "mlp_f", "spide_conv_f")
IMAGE, DIGIT, EVENTS = (3, 32, 32), (1, 28, 28), (2, 48, 48)


def kinds(modules) -> list[str]:
    return [type(module).__name__ for module in modules]


def net(layers, shape=(2, 9, 9), neuron=nn.ReLU, classes=3, **options) -> FeedbackNet:
    torch.manual_seed(0)
    return FeedbackNet(shape, classes, neuron, layers=layers, **options).double()


def synapse(model: FeedbackNet) -> nn.Module:
    return model.feedback.transform[0]


@pytest.mark.parametrize(
    "name, shape, classes, total, without_norm, published",
    [
        ("conv_f", DIGIT, 10, 229_642, 229_514, "0.229"),
        ("mlp_f", DIGIT, 10, 478_810, 478_010, "0.478"),
        ("alexnet_f", IMAGE, 10, 3_709_514, 3_706_762, "3.7"),
        ("alexnet_f", IMAGE, 100, 5_184_164, 5_181_412, "5.2"),
        ("cifarnet_f", IMAGE, 10, 11_840_010, 11_835_146, "11.8"),
        ("cifarnet_f", IMAGE, 100, 14_789_220, 14_784_356, "14.8"),
        ("spide_conv_f", DIGIT, 10, 274_826, 274_826, "0.275"),
        ("dvs_conv_f", EVENTS, 10, 9_586_186, 9_586_186, "9.6"),
    ],
)
def test_sizes_are_the_published_ones(name, shape, classes, total, without_norm, published):
    with torch.device("meta"):
        model = create_model(name, shape, classes, nn.ReLU, restriction="none")
        plain = create_model(name, shape, classes, nn.ReLU, restriction="none", norm="none")
    assert sum(p.numel() for p in model.parameters()) == total
    found = sum(p.numel() for p in plain.parameters())
    assert found == without_norm
    biases = sum(p.numel() for n, p in plain.named_parameters() if n.endswith("bias") and not n.startswith("readout"))
    counted = found if name.startswith(("spide", "dvs")) else found - biases  # IDE counts weights
    digits = len(published.partition(".")[2])
    assert f"{counted / 1e6:.{digits}f}" == published


@pytest.mark.parametrize(
    "name, shape, maps",
    [
        ("conv_f", DIGIT, [(64, 14, 14)]),
        ("spide_conv_f", DIGIT, [(64, 14, 14), (64, 7, 7), (64, 7, 7)]),
        ("alexnet_f", IMAGE, [(96, 16, 16), (256, 16, 16), (384, 8, 8), (384, 8, 8), (256, 8, 8)]),
        ("cifarnet_f", IMAGE, [(128, 16, 16), (256, 16, 16), (512, 8, 8), (1024, 8, 8), (512, 8, 8)]),
        ("dvs_conv_f", EVENTS, [(512, 24, 24)]),
        ("mlp_f", DIGIT, [(400,)]),
    ],
)
def test_maps_are_the_published_ones(name, shape, maps):
    with torch.device("meta"):
        model = create_model(name, shape, 10, nn.ReLU, restriction="none")
        seen = []
        for module in model.layers:
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(lambda *hook: seen.append(tuple(hook[2].shape[1:])))
        assert model(torch.empty(2, *shape)).shape == (2, 10)
        assert seen == maps
        assert model.feedback.source is model.layers[-1]
        assert model.feedback.transform(torch.empty(2, *maps[-1])).shape == (2, *maps[0])


def test_a_layer_is_synapse_norm_pooling_dropout_and_neurons():
    model = net(("4C3sp", "6C3p"), (2, 16, 16), dropout=0.2)
    current = ["Conv2d", "BatchNorm2d", "AvgPool2d", "Dropout"]
    assert kinds(model.enter) == current and kinds(model.layers) == ["ReLU", *current, "ReLU"]
    assert kinds(model.feedback.transform) == ["ParametrizedConvTranspose2d", "Dropout"]
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.2}
    model = net((8, 6), norm="none", restriction="none")
    assert kinds(model.enter) == ["Flatten", "Linear"] and kinds(model.layers) == ["ReLU", "Linear", "ReLU"]
    assert kinds(model.feedback.transform) == ["Linear"]
    assert kinds(net((8,), dropout=0.1).enter) == ["Flatten", "Linear", "BatchNorm1d", "Dropout"]


DEFAULTS = {
    "alexnet_f": ("batch", "spectral", 1.0, "unit", 0.2, 1.0),
    "cifarnet_f": ("batch", "spectral", 1.0, "unit", 0.2, 1.0),
    "conv_f": ("batch", "spectral", 1.0, "unit", 0.2, 1.0),
    "mlp_f": ("batch", "spectral", 1.0, "unit", 0.2, 1.0),
    "spide_conv_f": ("none", "frobenius", 2.0, "kaiming", 0.2, 0.1),
    "dvs_conv_f": ("none", "frobenius", 10.0, "kaiming", 0.0, 1.0),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_settings_of_their_paper(name):
    parameters = inspect.signature(model_class(name)).parameters
    keys = ("norm", "restriction", "limit", "init", "dropout", "back_scale")
    assert tuple(parameters[key].default for key in keys) == DEFAULTS[name]
    assert parameters["feedback"].default is True and parameters["width"].default == 1.0
    assert "layers" not in parameters and "back" not in parameters
    model = create_model(name, EVENTS, 2, nn.ReLU, width=1 / 32)
    assert any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules()) == (
        DEFAULTS[name][0] == "batch"
    )
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    assert rates == ({DEFAULTS[name][4]} if DEFAULTS[name][4] else set())
    assert synapse(model).parametrizations.weight[0].limit == DEFAULTS[name][2]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hand_on_every_option(name, monkeypatch):
    given: dict[str, object] = {}
    monkeypatch.setattr(FeedbackNet, "__init__", lambda net, *args, **options: given.update(options))
    options = {"width": 0.5, "dropout": 0.3, "norm": "none", "feedback": False, "restriction": "frobenius"}
    options |= {"limit": 3.0, "init": "kaiming", "back_scale": 0.5}
    model_class(name)(IMAGE, 2, nn.ReLU, **options)
    assert {key: value for key, value in given.items() if key not in ("layers", "back")} == options


def integrate(threshold: float = 0.5) -> spikewright.IF:
    return spikewright.IF(threshold=threshold)


def program(model: FeedbackNet, x: Tensor) -> Tensor:
    """The same network as a loop: integrate, fire, subtract; the last spikes of a step come back in the next."""
    potentials: dict[int, Tensor | float] = {}
    last, outputs = None, []

    def fire(layer: int, current: Tensor) -> Tensor:
        u = potentials.get(layer, 0.0) + current
        spikes = (u >= 0.5).to(current.dtype)
        potentials[layer] = u - 0.5 * spikes
        return spikes

    for step in x:
        current = model.enter(step)
        if last is not None:
            weight = synapse(model).weight
            if isinstance(synapse(model), nn.ConvTranspose2d):
                back = F.conv_transpose2d(last, weight, None, 2, weight.shape[-1] // 2, 1)
            elif isinstance(synapse(model), nn.Conv2d):
                back = F.conv2d(last, weight, padding=weight.shape[-1] // 2)
            else:
                back = last @ weight.T
            current = current + back
        spikes = fire(0, current)
        for layer, (module, _) in enumerate(zip(model.layers[1::2], model.layers[2::2], strict=True)):
            spikes = fire(layer + 1, module(spikes))
        last = spikes
        outputs.append(model.readout(spikes.flatten(1)))
    return torch.stack(outputs)


@pytest.mark.parametrize("layers", [("6C5s",), ("6C3s", "5C3s", "4C3"), (12,), (12, 9, 7)], ids=str)
def test_the_spikes_of_the_last_layer_reach_the_first_one_step_later(layers):
    model = net(layers, (2, 8, 8), integrate, norm="none", back=3)
    x = 4 * torch.randn(5, 4, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        found, expected = spikewright.Network(model)(x), program(model, x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        model.feedback = nn.Identity()
        open_loop = spikewright.Network(model)(x)
    assert torch.equal(open_loop[0], found[0]) and not torch.allclose(open_loop[1:], found[1:])


@pytest.mark.parametrize("name", PRESETS)
def test_without_feedback_the_other_weights_are_the_same(name):
    def build(**options) -> FeedbackNet:
        torch.manual_seed(0)
        return create_model(name, IMAGE, 10, nn.ReLU, width=1 / 16, **options)

    closed, opened = build(), build(feedback=False)
    assert any(isinstance(module, Feedback) for module in closed.modules())
    assert not any(isinstance(module, Feedback) for module in opened.modules())
    rest = {name: value for name, value in closed.state_dict().items() if not name.startswith("feedback.")}
    assert list(rest) == list(opened.state_dict()) and len(rest) < len(closed.state_dict())
    assert all(torch.equal(value, opened.state_dict()[name]) for name, value in rest.items())


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_learns_from_three_steps(name, norm):
    torch.manual_seed(0)
    model = create_model(name, IMAGE, 4, integrate, width=1 / 16, norm=norm, dropout=0.1).double()
    x = 2 * torch.randn(3, 4, *IMAGE, dtype=torch.float64)
    loss = spikewright.losses.OnRate(nn.CrossEntropyLoss())
    updates = list(spikewright.rules.BPTT().updates(spikewright.Network(model), x, torch.arange(4), loss))
    assert len(updates) == 1
    found = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, grad in found.items() if grad is None or not grad.isfinite().all()] == []
    removed = set()
    if norm == "batch":
        synapses = (nn.Conv2d, nn.Linear)
        removed = {f"{name}.bias" for name, module in model.named_modules() if isinstance(module, synapses)}
        removed = removed & set(found) - {"readout.bias"}
    assert {name for name, grad in found.items() if grad.abs().max() < 1e-12} == removed


def filters(module: nn.Module) -> Tensor:
    weight = module.weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else module.weight
    return weight.detach().flatten(1)


@pytest.mark.parametrize("layers", [("6C5s",), ("6C3s", "5C3s", "4C3"), (12, 9)], ids=str)
def test_unit_filters_have_unit_norm(layers):
    model = net(layers, restriction="none", back_scale=0.1)
    drawn = [module for module in [*model.enter, *model.layers] if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(drawn) == len(layers)
    for module in drawn:
        torch.testing.assert_close(filters(module).norm(dim=1), torch.ones(len(filters(module)), dtype=torch.float64))
        assert not module.bias.any()
    back = synapse(model)
    assert back.bias is None and len(filters(back)) == len(filters(drawn[0]))
    torch.testing.assert_close(filters(back).norm(dim=1), torch.full((len(filters(back)),), 0.1, dtype=torch.float64))
    assert model.readout.bias.any() and model.readout.weight.abs().max() <= model.readout.in_features**-0.5


def test_unit_filters_come_from_a_uniform_distribution():
    weight = filters(net((400,), (1, 50, 50)).enter[1])
    scaled = weight / weight.abs().amax(1, keepdim=True)
    # Kurtosis 9/5, where a normal distribution has 3.
    assert (scaled**4).mean() / (scaled**2).mean() ** 2 == pytest.approx(1.8, rel=0.02)


def test_kaiming_filters_have_variance_two_over_fan_in():
    model = net(("40C5s", "60C5s", "50C5"), (20, 16, 16), init="kaiming", restriction="none", back=3, back_scale=0.1)
    for module in (model.enter[0], model.layers[1], model.layers[4]):
        assert module.weight.std().item() == pytest.approx((2 / module.weight[0].numel()) ** 0.5, rel=0.05)
        assert not module.bias.any()
    assert synapse(model).weight.shape == (50, 40, 3, 3)
    assert synapse(model).weight.std().item() == pytest.approx(0.1 * (2 / (50 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("layers", [("6C5s",), ("6C3s", "5C3s"), (12, 9)], ids=str)
def test_restrictions_hold_from_the_start(layers):
    free, spectral, frobenius = (net(layers, restriction=r, limit=0.7) for r in ("none", "spectral", "frobenius"))
    assert [p.shape for p in free.feedback.parameters()] == [synapse(free).weight.shape]
    assert operator_norm(synapse(free)) > 0.8
    assert operator_norm(synapse(spectral)) == pytest.approx(0.7, rel=1e-6)
    assert synapse(frobenius).weight.norm().item() == pytest.approx(0.7, rel=1e-6)
    for model in (spectral, frobenius):
        drawn = synapse(model).parametrizations.weight.original
        torch.testing.assert_close(drawn, synapse(free).weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("height, width", [(8, 8), (13, 10), (7, 15), (28, 29)])
@pytest.mark.parametrize("layers", [("4C5s",), ("4C3", "3C3s"), ("4C3s", "3C3s", "2C3s"), ("4C3p", "3C5s")], ids=str)
def test_feedback_meets_maps_of_any_size(layers, height, width):
    model = net(layers, (2, height, width), integrate)
    assert spikewright.Network(model)(torch.randn(2, 2, 2, height, width).double()).shape == (2, 2, 3)


def test_feedback_refuses_a_map_that_pooling_has_cut():
    assert net(("4C3", "3C3p"), (2, 8, 10)).feedback.transform(torch.zeros(1, 3, 4, 5).double()).shape[2:] == (8, 10)
    with pytest.raises(ShapeError, match="4 x 5 pixels back to one of 9 x 10, but pooling cut its border"):
        net(("4C3", "3C3p"), (2, 9, 10))
    assert net(("4C3", "3C3p"), (2, 9, 10), feedback=False).readout.in_features == 3 * 4 * 5
    with pytest.raises(ShapeError, match="on a map of 1 x 5 pixels, which leaves nothing"):
        net(("4C3p", "3C3p"), (2, 3, 10))


@pytest.mark.parametrize(
    "match, options",
    [
        ("layers=\\('64C5', 'P2'\\), but 'P2' is no valid layer", {"layers": ("64C5", "P2")}),
        ("'64C4' is no valid layer", {"layers": ("64C4",)}),
        ("'0C3' is no valid layer", {"layers": ("0C3",)}),
        ("300 is no valid layer", {"layers": ("64C5", 300)}),
        ("layers=\\(\\), but a network needs layers", {"layers": ()}),
        ("layers=0.: each entry of layers", {"layers": (300, 0)}),
        ("back=4, which has no centre pixel", {"layers": ("8C3",), "back": 4}),
        ("no norm 'sws'", {"layers": ("8C3",), "norm": "sws"}),
        ("no init 'units'. Did you mean 'unit'", {"layers": ("8C3",), "init": "units"}),
        ("limit=0.0", {"layers": ("8C3",), "limit": 0.0}),
        ("dropout=1.0.: dropout is the share", {"layers": ("8C3",), "dropout": 1.0}),
    ],
)
def test_what_is_no_network_is_refused(match, options):
    with pytest.raises(ConfigError, match=match):
        net(**options)


def test_a_copy_listens_to_itself():
    model = net(("4C3s", "3C3s"), (2, 8, 8), integrate)
    twin = copy.deepcopy(model)
    assert twin.feedback.source is twin.layers[-1] and twin.feedback.source is not model.layers[-1]


@pytest.mark.parametrize("name, shape", [("conv_f", (1, 12, 12)), ("spide_conv_f", (1, 16, 16)), ("mlp_f", (1, 4, 4))])
@pytest.mark.long
def test_the_operator_of_the_feedback_can_be_kept_below_a_limit(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    narrow, wide = (
        create_model(name, shape, 3, nn.ReLU, width=0.125, restriction=kind, limit=0.7, init="unit", back_scale=1.0)
        for kind in ("operator", "spectral")
    )
    size = None if name == "mlp_f" else (shape[1] // 2, shape[2] // 2) if name == "conv_f" else (4, 4)
    below, above = (operator_norm(net.feedback.transform[0], size) for net in (narrow, wide))
    assert below <= 0.7 * (1 + 1e-4)
    assert (above > 0.75) == (name != "mlp_f")
